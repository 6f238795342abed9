// What a person does on the drawing page; runs behind the page's own script, in a browser or in page_in_node.js.
// What came of it becomes the title of the page, as JSON.
(async () => {
  const report = {};
  const area = canvas.getBoundingClientRect();
  const pen = (kind, [x, y], id = 1, type = "touch") => canvas.dispatchEvent(new PointerEvent(kind, {
    pointerId: id, pointerType: type, button: 0, bubbles: true, cancelable: true,
    clientX: area.left + x / 256 * area.width, clientY: area.top + y / 256 * area.height,
  }));
  canvas.setPointerCapture = () => {};   // browsers refuse it for pointers that are not there
  const draws = (line) => {
    pen("pointerdown", line[0]);
    for (const point of line.slice(1)) pen("pointermove", point);
    pen("pointerup", line.at(-1));
  };
  const until = async (holds) => {
    for (let n = 0; n < 400 && !holds(); n++) await new Promise((done) => setTimeout(done, 25));
    if (!holds()) throw new Error(`waited in vain for ${holds}`);
  };
  const press = (name) => document.getElementById(name).dispatchEvent(new Event("click"));
  const isOff = (name) => document.getElementById(name).disabled;
  try {
    report.nothing_to_undo = isOff("undo");
    draws([[20, 30], [60, 30], [60, 90]]);
    draws([[100, 100], [140, 120]]);
    report.drawn = strokes;
    await until(() => endings.length);   // by itself, after a pause
    report.status = document.getElementById("status").textContent;
    report.first = suggestion();
    press("another");
    report.second = suggestion();
    press("keep");
    report.kept = strokes;
    report.after_keeping = suggestion();
    press("undo");
    report.undone = strokes;
    let blob = null;
    URL.createObjectURL = (given) => { blob = given; return "blob:x"; };
    URL.revokeObjectURL = () => {};
    document.createElement = () => ({ click() {} });
    press("save");
    report.svg = await blob.text();
    pen("pointerdown", [20, 40]);
    pen("pointerdown", [180, 220], 2);      // a palm
    for (const x of [40, 60, 80]) { pen("pointermove", [x, 40]); pen("pointermove", [180 + x / 40, 220], 2); }
    pen("pointerup", [184, 220], 2);
    pen("pointerup", [80, 40]);
    pen("pointerdown", [180, 220], 2);      // a palm that comes first
    pen("pointerdown", [20, 60], 3, "pen");
    pen("pointermove", [40, 60], 3, "pen");
    pen("pointermove", [181, 220], 2);
    pen("pointerup", [181, 220], 2);
    pen("pointerup", [40, 60], 3, "pen");
    draws([[98, 125]]);
    report.beside_palm = strokes.slice(-3);
    report.tap = svgText(strokes.slice(-1), []);
    globalThis.devicePixelRatio = 2;
    paint();
    report.density = canvas.width / canvas.getBoundingClientRect().width;
    press("clear");
    report.cleared = strokes;
    document.getElementById("temperature").max = "200";    // the slider itself gives no more than it may
    document.getElementById("temperature").value = "99";   // more than the server takes
    press("ask");
    await until(() => document.getElementById("status").className === "bad");
    report.complaint = document.getElementById("status").textContent;
  } catch (error) {
    report.error = String(error.stack);
  }
  document.title = JSON.stringify(report);
})();
