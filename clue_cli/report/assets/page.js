// ---- Which of the two views ----
const title = document.title;
function show() {
  if (state.image) {
    if (document.readyState === "loading") return; // the details come after this script; shown when they are there
    const i = find(state.image, Math.trunc(bound(state.page, 0)), Math.trunc(bound(state.twin, 0)));
    const changed = i !== open || $("detail").hidden;
    $("overview").hidden = true;
    $("detail").hidden = false;
    showDetail(i);
    document.title = i < 0 ? title : `${shownName(images[i])} – ${title}`;
    if (changed) {
      window.scrollTo(0, 0);
      (i < 0 ? $("close") : $("detail-title")).focus({ preventScroll: true });
    }
    return;
  }
  const left = open;
  $("detail").hidden = true;
  $("overview").hidden = false;
  open = null;
  document.title = title;
  showTable();
  if (left !== null) {
    const line = $("rows").querySelector(`[data-image="${left}"] .name a`);
    (line || $("table")).focus();
  }
}
// Back to the page of the table on which the image is.
function close() {
  const at = view.indexOf(open);
  const page = at < 0 ? state.p : String(Math.floor(at / Number(state.n)) + 1);
  go({ image: "", page: "", twin: "", p: page }, true);
}
function showFailures() {
  const shown = $("failure-rows").children.length;
  $("failure-rows").append(...failures.slice(shown, shown + FAILURES_AT_ONCE).map((row) => el("tr", null,
    el("td", { class: "name" }, name(row[F_NAME]), row[F_PAGE] === null ? null : el("small", null, `page ${row[F_PAGE] + 1}`),
      row[F_SHA] === null ? null : el("small", { class: "code" }, `SHA-256 ${row[F_SHA]}`)),
    el("td", null, row[F_STEP]), el("td", { class: "code" }, row[F_CODE]), el("td", { class: "name" }, name(row[F_MESSAGE])),
    el("td", { class: "name" }, row[F_ADVICE] === null ? "–" : name(row[F_ADVICE])))));
  const now = $("failure-rows").children.length;
  $("failures-box").hidden = !now;
  $("failures-more").hidden = now === failures.length;
  $("failures-more").querySelector("span").textContent = `${number(now)} of ${number(failures.length)} shown`;
}

// ---- What a person does ----

function arrive() {
  readState();
  show();
}
listen(window, "popstate", arrive);
listen(window, "hashchange", arrive);
listen(window, "pagehide", settle);
listen($("rows"), "click", settle); // before the browser follows the link
listen(document, "DOMContentLoaded", () => { if (state.image) show(); });
listen($("filters"), "input", (event) => go({ [event.target.name]: event.target.value, p: "1" }));
listen($("one-group").querySelector("button"), "click", () => {
  go({ group: "", rows: "", p: "1" });
  $("table").focus({ preventScroll: true });
});
listen($("rows"), "click", (event) => {
  const opener = event.target.closest(".opener");
  if (opener) toggleGroup(Number(opener.dataset.group));
});
listen($("rows"), "focusin", (event) => { if (event.target.closest("tr[data-image]")) setCursor(event.target); });
listen($("filters"), "submit", (event) => event.preventDefault());
listen($("filters"), "reset", (event) => {
  event.preventDefault();
  go({ ...DEFAULTS, n: state.n, rows: state.rows, sort: state.sort, dir: state.dir });
});
listen($("table").tHead, "click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  const sort = button.dataset.sort;
  const down = sort === state.sort ? !descending() : falls(sort);
  go({ sort, dir: down === falls(sort) ? "" : down ? "desc" : "asc", p: "1" });
});
listen($("pager"), "click", (event) => {
  const step = event.target.dataset.step;
  if (!step) return;
  const page = { first: 1, previous: currentPage() - 1, next: currentPage() + 1, last: pages() }[step];
  go({ p: String(page) });
  $("images").scrollIntoView();
  if (event.target.disabled) $("table").focus({ preventScroll: true });
});
for (const anchor of document.querySelectorAll("a.filter")) {
  listen(anchor, "click", (event) => {
    event.preventDefault();
    const wanted = new URLSearchParams(anchor.hash.slice(1));
    go({ ...DEFAULTS, n: state.n, verdict: wanted.get("verdict") || "", second: wanted.get("second") || "" });
    $("images").scrollIntoView();
    $("table").focus({ preventScroll: true });
  });
}
for (const anchor of document.querySelectorAll("a.jump, a.skip")) {
  // The fragment holds the state of the view: these only move the focus.
  listen(anchor, "click", (event) => {
    event.preventDefault();
    const target = $(anchor.hash.slice(1));
    target.scrollIntoView();
    target.focus({ preventScroll: true });
  });
}
listen($("close"), "click", close);
for (const id of ["before", "after"]) {
  listen($(id), "click", () => go(placeOf(Number($(id).dataset.image)), true));
}
listen(document, "keydown", (event) => {
  if (event.defaultPrevented || event.isComposing || event.altKey || event.ctrlKey || event.metaKey || document.querySelector("dialog[open]")) return;
  if (event.key === "Escape" && (event.target === $("note") || event.target === $("filters").elements.q)) {
    event.target.blur();
    return;
  }
  if (keysOn && !typing(event.target) && event.key.length === 1 && event.key !== " " && pressed(event)) {
    event.preventDefault();
    return;
  }
  if ($("detail").hidden || event.shiftKey) return;
  if (event.key === "Escape") close();
  if (event.target.closest("input, select, textarea, .frame, .view")) return; // there the arrows have a meaning of their own
  if (event.key === "ArrowLeft" && !$("before").disabled) $("before").click();
  if (event.key === "ArrowRight" && !$("after").disabled) $("after").click();
});
listen(document, "click", (event) => { if (event.target.closest(".show-keys")) showKeys(); });
listen($("keys-on"), "input", () => setKeys($("keys-on").checked));
for (const button of document.querySelectorAll("dialog .done")) listen(button, "click", () => button.closest("dialog").close());
listen($("ask-form"), "submit", (event) => {
  event.preventDefault();
  if (!$("ask-name").value.trim()) return;
  setWho($("ask-name").value);
  const action = pending;
  pending = null;
  $("ask-who").close();
  action?.();
});
listen($("ask-who"), "close", () => {
  asking = false;
  if (pending) announce("Nothing was noted: a note needs a name.");
  pending = null;
});
listen($("who"), "change", () => setWho($("who").value));
listen($("download-notes"), "click", downloadNotes);
listen($("load-notes"), "change", async () => {
  const file = $("load-notes").files[0];
  if (file) await loadNotes(file);
  $("load-notes").value = "";
});
listen($("other-runs").querySelector("button"), "click", takeOfOtherRuns);
listen($("marks"), "click", (event) => {
  const button = event.target.closest("button[data-mark]");
  if (button && open >= 0) mark(open, button.dataset.mark);
});
// The image that the note was begun for: another may be in view when the field is left.
let noteFor = null, notePause = 0, typed = false;
// Only what was typed here: another tab may have written to the note meanwhile.
function saveNote() {
  clearTimeout(notePause);
  if (noteFor === null || !who || !typed) return;
  typed = false;
  write(noteFor, { note: wellFormed($("note").value) });
}
listen($("note"), "focus", () => {
  noteFor = open;
  if (!who && !asking) named(() => $("note").focus()); // a dialog that is cancelled gives the focus back
});
listen($("note"), "input", () => {
  noteFor = open;
  typed = true;
  clearTimeout(notePause);
  if (who) notePause = setTimeout(saveNote, 400);
  else named(saveNote);
});
listen($("note"), "blur", saveNote);
listen(window, "pagehide", saveNote);
listen(window, "beforeunload", (event) => {
  saveNote();
  if (!keeps && unmerged().some((note) => !note.filed)) event.preventDefault();
});
listen(window, "storage", (event) => {
  if (event.key?.startsWith(KEPT) && event.newValue) refreshNotes(takeKept(event.newValue));
});
listen($("side-button"), "click", toggleSideBySide);
listen($("pane-count"), "input", () => countPanes(Number($("pane-count").value)));
listen($("zoom-buttons"), "click", (event) => { if (event.target.dataset.key) zoomKey(event.target.dataset.key, document.querySelector("#panes .view")); });
listen($("original"), "change", () => { if ($("original").files[0]) showOriginal($("original").files[0]); });
listen(window, "resize", arrange);
listen($("layers"), "input", showLayers);
listen($("layers"), "submit", (event) => event.preventDefault());
function drag(event) {
  if (event.buttons !== 1) return;
  const frame = $("stage").getBoundingClientRect();
  const share = (event.clientX - frame.left) / frame.width;
  $("layers").elements.wipe.value = String(Math.round(100 * Math.min(1, Math.max(0, share))));
  showLayers();
}
listen($("stage"), "pointerdown", drag);
listen($("stage"), "pointermove", drag);
listen($("stage"), "dragstart", (event) => event.preventDefault());
for (const image of document.querySelectorAll("#stage img")) {
  listen(image, "error", () => {
    $("pictures-missing").hidden = false;
    $("pictures-missing").textContent = `A picture cannot be shown: ${pathOf(image.getAttribute("src"))} is missing or damaged.`;
  });
}
if ($("failures-more")) listen($("failures-more").querySelector("button"), "click", showFailures);
const folded = () => document.querySelectorAll("details");
let unfolded = [];
listen(window, "beforeprint", () => {
  unfolded = [...folded()].filter((details) => !details.open);
  for (const details of unfolded) details.open = true;
  for (const image of document.querySelectorAll("#rows img")) image.loading = "eager";
});
listen(window, "afterprint", () => { for (const details of unfolded) details.open = false; });

$("images").hidden = false;
if (failures.length) showFailures();
startNotes();
startKeys();
fillFilters();
arrive();
refreshNotes();
