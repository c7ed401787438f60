// Browsers start no worker for a page that lies on the disk, and the search of the site runs in one. There, and only
// there, this class stands in for `Worker`: the worker's script runs in a hidden frame, and messages go to and fro.
if (location.protocol === "file:")
  window.Worker = class extends EventTarget {
    constructor(address) {
      super();
      const script = new URL(address, location).href.replaceAll("&", "&amp;").replaceAll('"', "&quot;");
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      this.frame.srcdoc = `<script>
        const page = parent;
        postMessage = message => page.dispatchEvent(new CustomEvent("worker", {detail: {from: window, message}}));
        importScripts = (...addresses) => addresses.reduce((before, address) => before.then(() => new Promise((done, failed) => {
          const script = document.createElement("script");
          Object.assign(script, {src: address, onload: done, onerror: failed});
          document.body.append(script);
        })), Promise.resolve());
      </scr` + `ipt><script src="${script}"></scr` + `ipt>`;
      this.loaded = new Promise(done => this.frame.addEventListener("load", done));
      addEventListener("worker", event => {
        if (event.detail.from === this.frame.contentWindow)
          this.dispatchEvent(new MessageEvent("message", {data: event.detail.message}));
      });
      document.body.append(this.frame);
    }
    postMessage(message) {
      this.loaded.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", {data: message})));
    }
    terminate() {
      this.frame.remove();
    }
  };
