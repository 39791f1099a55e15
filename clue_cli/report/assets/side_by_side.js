// ---- Side by side: panes with one view, each of them in pixels of the picture, whatever the size of its file ----
const LAYERS = { // files, the one that the caption speaks of first; what is drawn below it comes after it
  image: ["Image", "preview"], over: ["Image with heatmap", "preview", "heat_overlay", "outline"], heat: ["Heatmap, grey", "heatmap"], mask: ["Mask", "mask"],
  second: ["Image with heatmap of the second question", "preview", "synthetic_overlay"],
  ela: ["Error level analysis (aid)", "error_level_analysis"], ghosts: ["JPEG ghosts (aid)", "jpeg_ghosts"], noise: ["Noise inconsistency (aid)", "noise_inconsistency"],
  thumbnail: ["Thumbnail in the file", "embedded_thumbnail"], original: ["Original from your disk", "original"],
};
const MOST_ZOOM = 32; // pixels of the screen for one of the picture
const look = { scale: 0, x: 0.5, y: 0.5 }; // CSS pixels for one of the picture, 0: as fits; the point in the middle as shares
let paneImage = null; // number of the image in the panes
let paneUrls = {};
const panes = () => [...document.querySelectorAll("#panes .pane")];
const sides = () => state.side.split(".").filter((key) => Object.hasOwn(LAYERS, key)).slice(0, 4);
const layersHere = () => Object.keys(LAYERS).filter((key) => LAYERS[key].slice(1).every((field, n) => paneUrls[field] || (key === "over" && n === 2)));

function fitting(view) {
  const row = images[paneImage];
  return Math.min(view.clientWidth / row[WIDTH], view.clientHeight / row[HEIGHT]);
}
function scaleIn(view) {
  const fit = fitting(view);
  return look.scale ? Math.min(Math.max(look.scale, fit / 2), Math.max(fit, MOST_ZOOM / devicePixelRatio)) : fit;
}
function arrange() {
  if (paneImage === null || $("side-by-side").hidden) return;
  const row = images[paneImage];
  for (const pane of panes()) {
    const view = pane.querySelector(".view"), scale = scaleIn(view);
    for (const picture of view.querySelectorAll("img")) {
      picture.style.width = `${row[WIDTH]}px`;
      picture.style.height = `${row[HEIGHT]}px`;
      picture.style.transform = `translate(${view.clientWidth / 2 - look.x * row[WIDTH] * scale}px, ${view.clientHeight / 2 - look.y * row[HEIGHT] * scale}px) scale(${scale})`;
      picture.classList.toggle("pixelated", picture.naturalWidth > 0 && scale * devicePixelRatio * row[WIDTH] > picture.naturalWidth);
    }
    pane.querySelector("figcaption").textContent = resolution(view.querySelector("img"), row);
  }
  const first = panes()[0]?.querySelector(".view");
  if (!first) return;
  const zoom = scaleIn(first) * devicePixelRatio;
  $("zoom-text").textContent = `Zoom ${percent(zoom, zoom < 0.1 ? 1 : 0)}: ${zoom > 1 ? `one pixel of the original is ${fixed(zoom, 1)} pixels wide on the screen`
    : zoom === 1 ? "one pixel of the original is one of the screen" : `one pixel of the screen stands for ${fixed(1 / zoom, 1)} of the original in width`}.`;
}
// What a pane can show at most, by the size of its file.
function resolution(picture, row) {
  if (picture.dataset.failed && picture.dataset.url.startsWith("blob:")) return "This browser cannot show a file of this type, or it is damaged or too large. Open it with another program.";
  if (picture.dataset.failed) return `${pathOf(picture.dataset.url)} is missing, damaged, or too large for this browser.`;
  if (!picture.naturalWidth) return "Loading…";
  const across = picture.naturalWidth / row[WIDTH], down = picture.naturalHeight / row[HEIGHT];
  const size = `${number(picture.naturalWidth)} × ${number(picture.naturalHeight)}`;
  if (picture.naturalWidth === row[WIDTH] && picture.naturalHeight === row[HEIGHT]) return `Full resolution, ${size} pixels.`;
  const bent = Math.abs(across / down - 1) > 0.03 ? " Stretched to the shape of the picture." : "";
  return `A reduced copy: ${percent(Math.min(across, down), 0)} of the original’s resolution in width and height (${size} of ${number(row[WIDTH])} × ${number(row[HEIGHT])} pixels).${bent}`;
}
// Keeps the point under (x, y), as shares of the view, where it is.
function zoomBy(factor, view, x = 0.5, y = 0.5) {
  const row = images[paneImage], before = scaleIn(view);
  look.scale = before * factor;
  look.scale = scaleIn(view);
  const shift = (share, length, size) => ((share - 0.5) * length * (1 / before - 1 / look.scale)) / size;
  moveTo(look.x + shift(x, view.clientWidth, row[WIDTH]), look.y + shift(y, view.clientHeight, row[HEIGHT]));
}
function moveTo(x, y) {
  look.x = Math.min(1, Math.max(0, x));
  look.y = Math.min(1, Math.max(0, y));
  arrange();
}
function moveBy(dx, dy, view) { // CSS pixels
  const row = images[paneImage], scale = scaleIn(view);
  moveTo(look.x - dx / scale / row[WIDTH], look.y - dy / scale / row[HEIGHT]);
}
function fitPanes() {
  Object.assign(look, { scale: 0, x: 0.5, y: 0.5 });
  arrange();
}
function fullSize(view, x, y) {
  zoomBy(1 / devicePixelRatio / scaleIn(view), view, x, y);
}

function pane(key, place) {
  const choice = el("select", null, ...layersHere().map((one) => el("option", { value: one, selected: one === key ? "" : null }, LAYERS[one][0])));
  listen(choice, "input", () => go({ side: sides().map((one, i) => (i === place ? choice.value : one)).join(".") }));
  const view = el("div", { class: "view", tabindex: "0", role: "group", "aria-label": `Pane ${place + 1}: ${LAYERS[key][0]}. Plus and minus zoom, arrows move, 0 fits.` });
  for (const field of LAYERS[key].slice(1)) {
    if (!paneUrls[field]) continue;
    const picture = el("img", { alt: field === LAYERS[key][1] ? `${LAYERS[key][0]} of ${shownName(images[paneImage])}` : "", draggable: "false", decoding: "async" });
    picture.dataset.url = paneUrls[field];
    listen(picture, "load", arrange);
    listen(picture, "error", () => {
      picture.dataset.failed = "yes";
      arrange();
    });
    picture.src = paneUrls[field];
    view.append(picture);
  }
  handle(view);
  return el("figure", { class: "pane" }, el("label", null, `Pane ${place + 1} `, choice), view, el("figcaption", { role: "status" }));
}
function handle(view) {
  const fingers = new Map();
  const share = (event) => {
    const box = view.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  };
  listen(view, "wheel", (event) => {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 20 : 1;
    zoomBy(Math.exp(-Math.max(-300, Math.min(300, event.deltaY * lines)) * (event.ctrlKey ? 0.01 : 0.002)), view, ...share(event));
  }, { passive: false });
  listen(view, "dblclick", (event) => {
    if (scaleIn(view) * devicePixelRatio < 0.999) fullSize(view, ...share(event));
    else fitPanes();
  });
  listen(view, "pointerdown", (event) => {
    fingers.set(event.pointerId, event);
    view.setPointerCapture(event.pointerId);
  });
  listen(view, "pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    const other = [...fingers.values()].find((one) => one.pointerId !== event.pointerId);
    if (other) {
      const far = (one) => Math.max(1, Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY));
      const middle = share({ clientX: (event.clientX + other.clientX) / 2, clientY: (event.clientY + other.clientY) / 2 });
      zoomBy(far(event) / far(before), view, ...middle);
      moveBy((event.clientX - before.clientX) / 2, (event.clientY - before.clientY) / 2, view);
    } else {
      moveBy(event.clientX - before.clientX, event.clientY - before.clientY, view);
    }
    fingers.set(event.pointerId, event);
  });
  for (const end of ["pointerup", "pointercancel"]) listen(view, end, (event) => fingers.delete(event.pointerId));
  listen(view, "keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const step = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] }[event.key];
    if (step) moveBy(...step, view);
    else if (!zoomKey(event.key, view)) return;
    event.preventDefault();
  });
}
function zoomKey(key, view) {
  if (key === "+" || key === "=") zoomBy(1.25, view);
  else if (key === "-") zoomBy(0.8, view);
  else if (key === "0") fitPanes();
  else if (key === "1") fullSize(view);
  else return false;
  return true;
}
function showSideBySide(i) {
  const wanted = sides();
  $("side-by-side").hidden = !wanted.length;
  $("side-button").setAttribute("aria-expanded", String(wanted.length > 0));
  $("side-button").textContent = wanted.length ? "Close side by side" : "Side by side";
  if (!wanted.length) {
    $("panes").replaceChildren(); // the decoded pictures go with them
    paneImage = null;
    return;
  }
  if (i !== paneImage) {
    forgetOriginal();
    paneUrls = { ...detailOf(i).urls };
    Object.assign(look, { scale: 0, x: 0.5, y: 0.5 });
  }
  paneImage = i;
  $("pane-count").value = String(wanted.length);
  const there = layersHere();
  const shown = wanted.map((key) => (there.includes(key) ? key : there[0]));
  const old = panes();
  const fresh = shown.map((key, place) => (old[place]?.dataset.shows === `${i} ${key} ${there}` ? old[place] : pane(key, place)));
  fresh.forEach((one, place) => { one.dataset.shows = `${i} ${shown[place]} ${there}`; });
  $("panes").replaceChildren(...fresh);
  $("panes").style.setProperty("--panes", String(fresh.length));
  $("original-box").hidden = images[i][PAGE] > 0;
  arrange();
}
function toggleSideBySide() {
  const first = [["over", "mask"], ["image", "mask"], ["mask", "heat"]].find((pair) => pair.every((key) => {
    const urls = detailOf(open).urls;
    return LAYERS[key].slice(1).every((field) => urls[field]);
  })) ?? ["image", "mask"];
  go({ side: state.side ? "" : first.join(".") });
}
function countPanes(count) {
  const now = sides(), more = layersHere().filter((key) => !now.includes(key));
  while (now.length < count) now.push(more.shift() ?? now[0]);
  go({ side: now.slice(0, count).join(".") });
}

// ---- The picture itself, from the evidence: shown if it is the file that was judged ----
function forgetOriginal() {
  if (paneUrls.original) URL.revokeObjectURL(paneUrls.original);
  $("original-text").textContent = "";
  $("original").value = "";
}
async function showOriginal(file) {
  const i = open, wanted = detailOf(i).file[0];
  $("original-text").textContent = "Its SHA-256 is computed…";
  let found = "";
  try {
    const digest = await crypto.subtle.digest("SHA-256", await file.arrayBuffer());
    found = [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  } catch (error) {
    $("original-text").textContent = `${printable(file.name)} could not be read, or this browser cannot compute its SHA-256: ${error.message}`;
    return;
  }
  if (i !== open || i !== paneImage) return;
  if (found !== wanted) {
    $("original-text").textContent = `${printable(file.name)} is not the file that was judged, and is not shown: its SHA-256 is ${found}.`;
    return;
  }
  if (paneUrls.original) URL.revokeObjectURL(paneUrls.original);
  paneUrls.original = URL.createObjectURL(file);
  $("original-text").textContent = "The SHA-256 is that of the file that was judged. This browser decodes it by itself, with its own handling of colours.";
  go({ side: ["original", ...sides().slice(1)].join(".") });
}
