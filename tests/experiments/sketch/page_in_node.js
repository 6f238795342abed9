// Runs the script of the drawing page without a browser: node page_in_node.js URL SCENARIO. Prints the title in the end.
const fs = require("fs"), vm = require("vm");

class Node { constructor(id) { this.id = id; this.heard = {}; this.disabled = false; this.checked = id === "auto"; this.width = this.height = 512; }
  addEventListener(kind, act) { (this.heard[kind] ??= []).push(act); }
  dispatchEvent(event) { event.target = this; for (const act of this.heard[event.type] ?? []) act(event); }
  getBoundingClientRect() { return { left: 8, top: 16, width: 400, height: 400 }; }
  getContext() { return new Proxy({}, { get: (kept, name) => name in kept ? kept[name] : () => {}, set: (kept, name, value) => { kept[name] = value; return true; } }); } }
class Event { constructor(type, init = {}) { Object.assign(this, init, { type }); } preventDefault() {} }

(async () => {
  const [url, scenario] = process.argv.slice(2);
  const html = await (await fetch(url)).text();
  const nodes = {};
  const document = new Node("document");
  document.title = "";
  document.getElementById = (id) => {
    if (!html.includes(`id="${id}"`)) throw new Error(`the page has no ${id}`);
    return nodes[id] ??= new Node(id);
  };
  document.getElementById("temperature").value = html.match(/id="temperature"[^>]*value="([^"]*)"/)[1];
  const world = { document, Event, PointerEvent: Event, AbortController, Blob, console, setTimeout, clearTimeout, URL: {},
    TypeError, fetch: (path, options) => fetch(new URL(path, url), options) };
  vm.createContext(world);
  vm.runInContext(html.match(/<script>([^]*)<\/script>/)[1], world);
  vm.runInContext(fs.readFileSync(scenario, "utf-8"), world);
  while (!document.title) await new Promise((done) => setTimeout(done, 20));
  process.stdout.write(document.title);
  process.exit(0);
})();
