"""The memory limit: of the machine, and of the control groups of either version."""

from __future__ import annotations

from pathlib import Path

from reprise.runtime.memory import evaluation_batch, gibibytes, memory_limit

GIB = 1 << 30


def machine(folder: Path, own: str) -> tuple[Path, Path, Path]:
    """A machine of 16 GiB and its control groups."""
    (folder / "meminfo").write_text("MemTotal:       16777216 kB\nMemFree:        1 kB\n")
    (folder / "cgroup").write_text(own)
    return folder / "meminfo", folder / "cgroup", folder / "groups"


def limit(groups: Path, name: str, text: str) -> None:
    (groups / name).parent.mkdir(parents=True, exist_ok=True)
    (groups / name).write_text(text)


def test_a_machine_without_groups(tmp_path: Path) -> None:
    assert memory_limit(*machine(tmp_path, "")) == 16 * GIB


def test_the_strictest_group_above_this_process_counts(tmp_path: Path) -> None:
    places = machine(tmp_path, "0::/batch/job/step\n")
    limit(places[2], "batch/memory.max", "max\n")
    limit(places[2], "batch/job/memory.max", f"{2 * GIB}\n")
    limit(places[2], "batch/job/step/memory.max", f"{3 * GIB}\n")
    limit(places[2], "other/memory.max", "1\n")
    assert memory_limit(*places) == 2 * GIB


def test_groups_of_version_1_and_their_way_to_say_unlimited(tmp_path: Path) -> None:
    places = machine(tmp_path, "5:cpu:/x\n4:memory:/docker/abc\n")
    limit(places[2], "memory/memory.limit_in_bytes", "9223372036854771712\n")
    assert memory_limit(*places) == 16 * GIB
    limit(places[2], "memory/docker/abc/memory.limit_in_bytes", f"{GIB}\n")
    assert memory_limit(*places) == GIB


def test_a_container_sees_its_own_limit_at_the_top(tmp_path: Path) -> None:
    places = machine(tmp_path, "0::/\n")
    limit(places[2], "memory.max", f"{4 * GIB}\n")
    assert memory_limit(*places) == 4 * GIB


def test_a_system_that_does_not_say(tmp_path: Path) -> None:
    assert memory_limit(tmp_path / "a", tmp_path / "b", tmp_path / "c") is None


def test_bytes_for_people() -> None:
    assert gibibytes(3 * GIB // 2) == "1.5 GiB"


def test_a_batch_of_large_images_holds_as_many_pixels_as_one_of_small_ones() -> None:
    assert [evaluation_batch(side, "cpu") for side in (8, 32, 33, 64)] == [512, 512, 481, 128]
    assert [evaluation_batch(side, "cpu") for side in (65, 96, 224, 4096)] == [496, 227, 41, 1]  # behind a larger stem
    assert [evaluation_batch(side, "cuda") for side in (64, 224, 448)] == [512, 512, 128]
