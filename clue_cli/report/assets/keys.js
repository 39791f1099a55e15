// ---- The keyboard: single keys can be turned off (WCAG 2.1.4) ----
const KEYS = [
  ["n", "j", "next image or row"], ["p", "k", "previous image or row"], ["Enter", "", "open the image of the row"],
  ["c", "", "mark as checked, or take that mark away"], ["t", "", "mark as to be checked"], ["x", "", "mark as not relevant"], ["m", "", "write a note"],
  ["g", "", "open or close the copies of a row"], ["s", "", "side by side: on or off"], ["+", "-", "side by side: larger, smaller"],
  ["0", "1", "side by side: fit; one pixel to one pixel"], ["f", "", "search for a name"], ["Esc", "", "leave a field; back to the table"], ["?", "", "this list"],
];
const MARK_KEYS = { c: "checked", t: "to_be_checked", x: "not_relevant" };
let keysOn = true;
try {
  keysOn = localStorage.getItem("clue-keys/1") !== "off";
} catch { /* then they are on */ }
function setKeys(on) {
  keysOn = on;
  try {
    localStorage.setItem("clue-keys/1", on ? "on" : "off");
  } catch { /* not remembered */ }
  $("keys-on").checked = on;
}
function startKeys() {
  $("keys-rows").replaceChildren(...KEYS.map(([one, other, text]) => el("tr", null,
    el("th", { scope: "row" }, el("kbd", null, one), other ? " or " : null, other ? el("kbd", null, other) : null), el("td", null, text))));
  setKeys(keysOn);
}
// The row with the cursor: that whose link, or anything else in it, has or had the focus.
let cursor = null;
const rowLinks = () => [...document.querySelectorAll("#rows tr[data-image] .name > a")];
function setCursor(link) {
  for (const row of document.querySelectorAll("#rows tr.cursor")) row.classList.remove("cursor");
  const row = link.closest("tr");
  row.classList.add("cursor");
  cursor = Number(row.dataset.image);
}
function stepCursor(step) {
  const links = rowLinks();
  const at = links.findIndex((link) => Number(link.closest("tr").dataset.image) === cursor);
  const next = at < 0 ? (step > 0 ? 0 : links.length - 1) : at + step;
  if (links[next]) {
    links[next].focus();
    return;
  }
  const page = currentPage() + step;
  if (at < 0 || page < 1 || page > pages()) {
    announce(step > 0 ? "This is the last row." : "This is the first row.");
    return;
  }
  go({ p: String(page) });
  const fresh = rowLinks();
  (step > 0 ? fresh[0] : fresh[fresh.length - 1])?.focus();
}
const inCursor = () => {
  const here = $("detail").hidden ? document.querySelector("#rows tr.cursor")?.dataset.image : open;
  return here === undefined || here === null || here < 0 ? null : Number(here);
};
function withImage(action) {
  const i = inCursor();
  if (i === null) announce("No row has the cursor: move it with N and P.");
  else action(i);
}
// Whether a key does something by itself where it was pressed.
const typing = (target) => target.closest("select, textarea, input:not([type=radio], [type=checkbox], [type=range], [type=file])") !== null;
function pressed(event) {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key, inDetail = !$("detail").hidden;
  if (key === "?") showKeys();
  else if (key === "n" || key === "j") (inDetail ? () => $("after").click() : () => stepCursor(1))();
  else if (key === "p" || key === "k") (inDetail ? () => $("before").click() : () => stepCursor(-1))();
  else if (Object.hasOwn(MARK_KEYS, key)) withImage((i) => mark(i, MARK_KEYS[key]));
  else if (key === "m") withImage((i) => noteOn(i));
  else if (key === "g" && !inDetail) withImage((i) => { if (groups.has(groupOf[i]) && !state.rows) toggleGroup(groupOf[i]); });
  else if (key === "s" && inDetail && open >= 0) toggleSideBySide();
  else if (key === "f" && !inDetail) $("filters").elements.q.focus();
  else if (inDetail && !$("side-by-side").hidden) return zoomKey(key, document.querySelector("#panes .view"));
  else return false;
  return true;
}
function noteOn(i) {
  if ($("detail").hidden) {
    go(placeOf(i), true);
  }
  named(() => {
    $("note").focus();
    $("note").scrollIntoView({ block: "center" });
  });
}
function showKeys() {
  $("keys").showModal();
}
