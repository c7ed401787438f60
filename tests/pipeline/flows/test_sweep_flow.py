"""The flow `sweep`: points as tasks, one of which fails, and the comparison beside the run."""

from __future__ import annotations

import pytest

from tests.pipeline.dvc_project import Project
from tests.pipeline.flows.toy import Prefect

pytestmark = [pytest.mark.xdist_group("flows"), pytest.mark.slow]


def test_a_failing_point_does_not_stop_the_rest(prefect: Prefect, toy: Project) -> None:
    toy.write("sweeps/words.yaml", "name: words\ngrid: {word: [fine, fail, better]}\n")
    toy.commit()
    done = toy.reprise("flows", "run", "sweep", "sweeps/words.yaml", check=False)
    assert done.returncode == 1
    run = prefect.run_of_command(done)
    assert run["state_type"] == "FAILED"
    assert "2 of 3 points done; words-" in run["state"]["message"]
    assert "the toy was told to fail" in run["state"]["message"]
    outcomes = {name.split()[-1]: state for name, (state, _) in prefect.tasks(run["id"]).items()}
    assert outcomes == {'word="fine"': "Ran", 'word="fail"': "Failed", 'word="better"': "Ran"}
    assert "word" in prefect.artifacts(run["id"])["sweep"]
    assert "knn.top1_val" in prefect.artifacts(run["id"])["sweep"].replace("\\", "")

    logs = prefect.logs(run["id"])
    assert "this is summary" in logs  # of a point, in its task's log
    assert not any(line.startswith("words-") and " | " in line for line in logs if "this is" in line)

    outside = toy.reprise("flows", "run", "sweep", "../words.yaml", check=False)
    assert outside.returncode == 1
    assert "a plan must lie in this folder (plan). Found: ../words.yaml" in outside.stderr

    toy.write("source", "broken")
    toy.commit()
    broken = toy.reprise("flows", "run", "sweep", "sweeps/words.yaml", check=False)
    assert broken.returncode == 1
    assert "sweep: Failed: the toy's source is broken" in broken.stderr
    assert "Traceback" not in broken.stderr
