// ---- Which of the two views ----
const title = document.title;
function show() {
  if (state.image) {
    if (document.readyState === "loading") return; // the details come after this script; shown when they are there
    const i = find(state.image, Math.trunc(bound(state.page, 0)));
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
  go({ image: "", page: "", p: page }, true);
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
function listen(target, event, action) { target.addEventListener(event, action); }
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
listen($("filters"), "submit", (event) => event.preventDefault());
listen($("filters"), "reset", (event) => {
  event.preventDefault();
  go({ q: "", verdict: "", second: "", smin: "", smax: "", amin: "", p: "1" });
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
  listen($(id), "click", () => {
    const row = images[Number($(id).dataset.image)];
    go({ image: row[NAME], page: row[PAGE] ? String(row[PAGE]) : "" }, true);
  });
}
listen(document, "keydown", (event) => {
  if ($("detail").hidden || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
  if (event.key === "Escape") close();
  if (event.target.closest("input, select, .frame")) return; // there the arrows have a meaning of their own
  if (event.key === "ArrowLeft" && !$("before").disabled) $("before").click();
  if (event.key === "ArrowRight" && !$("after").disabled) $("after").click();
});
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
arrive();
