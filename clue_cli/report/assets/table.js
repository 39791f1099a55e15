// ---- The state of the view is the fragment of the address, so that a view can be linked. ----
const DEFAULTS = { q: "", verdict: "", second: "", smin: "", smax: "", amin: "", sort: "verdict", dir: "", p: "1", n: "50", image: "", page: "" };
let state = { ...DEFAULTS };

function readState() {
  const given = new URLSearchParams(location.hash.slice(1));
  state = { ...DEFAULTS };
  for (const key of Object.keys(DEFAULTS)) if (given.has(key)) state[key] = given.get(key);
  if (!(state.sort in SORTS)) state.sort = DEFAULTS.sort;
  if (!["50", "100", "250", "1000"].includes(state.n)) state.n = DEFAULTS.n;
  if (!(state.verdict in VERDICTS)) state.verdict = "";
  if (!(state.second in SECONDS)) state.second = "";
}
function address(changes) {
  const next = { ...state, ...changes };
  const parts = new URLSearchParams();
  for (const [key, value] of Object.entries(next)) if (value !== DEFAULTS[key]) parts.set(key, value);
  return `#${parts}`;
}
// Typing changes the state with every key; browsers limit how often the address may follow.
let settling = 0;
function settle() {
  if (!settling) return;
  clearTimeout(settling);
  settling = 0;
  history.replaceState(null, "", address({}));
}
function go(changes, push) {
  if (push) settle();
  state = { ...state, ...changes };
  if (push) {
    history.pushState(null, "", address({}));
  } else {
    clearTimeout(settling);
    settling = setTimeout(settle, 200);
  }
  show();
}

// ---- The table ----
// What was generated as a whole comes behind what is forged, whatever its verdict on edited regions.
const rank = (row) => (row[SECOND] === "generated" ? Math.min(0.5, RANK[row[VERDICT]]) : RANK[row[VERDICT]]);
const collator = new Intl.Collator("en", { numeric: true });
const SORTS = {
  name: (a, b) => collator.compare(a[NAME], b[NAME]) || a[PAGE] - b[PAGE],
  verdict: (a, b) => rank(a) - rank(b),
  second: (a, b) => SECOND_RANK[a[SECOND]] - SECOND_RANK[b[SECOND]] || (b[SECOND_SCORE] || 0) - (a[SECOND_SCORE] || 0),
  score: (a, b) => a[SCORE] - b[SCORE],
  confidence: (a, b) => a[CONFIDENCE] - b[CONFIDENCE],
  area: (a, b) => a[AREA] - b[AREA],
  regions: (a, b) => a[REGIONS] - b[REGIONS],
  size: (a, b) => a[WIDTH] * a[HEIGHT] - b[WIDTH] * b[HEIGHT],
};
const SORT_NAMES = { name: "name", verdict: "verdict and score", second: "whether generated", score: "score", confidence: "confidence", area: "forged area",
  regions: "number of regions", size: "number of pixels" };
const falls = (sort) => !["name", "verdict", "second"].includes(sort);
const descending = () => (state.dir ? state.dir === "desc" : falls(state.sort));
let view = [];
let viewKey = null;

function bound(text, otherwise) {
  const value = Number.parseFloat(text.replace(",", "."));
  return Number.isFinite(value) ? value : otherwise;
}
function updateView() {
  const key = JSON.stringify([state.q, state.verdict, state.second, state.smin, state.smax, state.amin, state.sort, state.dir]);
  if (key === viewKey) return;
  viewKey = key;
  const wanted = state.q.toLowerCase();
  const low = bound(state.smin, -1), high = bound(state.smax, 2), area = bound(state.amin, -1) / 100;
  view = [];
  for (let i = 0; i < images.length; i += 1) {
    const row = images[i];
    if (state.verdict && row[VERDICT] !== state.verdict) continue;
    if (state.second && row[SECOND] !== state.second) continue;
    if (row[SCORE] < low || row[SCORE] > high || row[AREA] < area) continue;
    if (wanted && !row[NAME].toLowerCase().includes(wanted)) continue;
    view.push(i);
  }
  const compare = SORTS[state.sort], sign = descending() ? -1 : 1;
  view.sort((i, j) => {
    const a = images[i], b = images[j];
    // Images without a confidence come last in both directions.
    const missing = state.sort === "confidence" ? (a[CONFIDENCE] === null) - (b[CONFIDENCE] === null) : 0;
    return missing || sign * compare(a, b) || b[SCORE] - a[SCORE] || i - j;
  });
}
const pages = () => Math.max(1, Math.ceil(view.length / Number(state.n)));
const currentPage = () => Math.min(pages(), Math.max(1, Math.trunc(bound(state.p, 1))));
const addressOf = (i) => address({ image: images[i][NAME], page: images[i][PAGE] ? String(images[i][PAGE]) : "" });

function thumbnail(row) {
  if (!row[THUMB]) return el("span", { class: "none" }, "no picture");
  const image = el("img", { alt: "", loading: "lazy", decoding: "async", width: 96, height: 72 });
  image.addEventListener("error", () => image.replaceWith(el("span", { class: "none" }, "file missing")));
  image.src = row[THUMB];
  return image;
}
// With its own score: that of the column is about edited regions.
const second = (row) => [verdict(row[SECOND], SECONDS), row[SECOND_SCORE] === null ? null : el("small", null, `score ${fixed(row[SECOND_SCORE], 3)}`)];
function tableRow(i) {
  const row = images[i];
  return el("tr", { "data-image": i },
    el("td", { class: "thumb" }, el("a", { href: addressOf(i), tabindex: "-1", "aria-hidden": "true" }, thumbnail(row))),
    el("td", { class: "name" }, el("a", { href: addressOf(i) }, name(row[NAME])),
      row[PAGES] > 1 ? el("small", null, `page ${row[PAGE] + 1} of ${row[PAGES]}`) : null,
      row[NOTE] ? el("small", null, row[NOTE]) : null,
      el("span", { class: "narrow" }, verdict(row[VERDICT])),
      el("span", { class: "narrow" }, "Whole picture generated: ", ...second(row))),
    el("td", { class: "c-verdict" }, verdict(row[VERDICT])),
    el("td", { class: "num" }, fixed(row[SCORE], 3)),
    el("td", { class: "num c-confidence" }, confidence(row[CONFIDENCE])),
    el("td", { class: "num c-area" }, percent(row[AREA], 2)),
    el("td", { class: "num c-regions" }, number(row[REGIONS])),
    el("td", { class: "c-second" }, ...second(row)),
    el("td", { class: "num c-size" }, `${row[WIDTH]} × ${row[HEIGHT]}`));
}
// In words, because the controls are not in print.
function describeFilters() {
  return [
    state.q && `name contains “${state.q}”`, state.verdict && `verdict ${VERDICTS[state.verdict].toLowerCase()}`,
    state.second && `whole picture generated: ${SECONDS[state.second].toLowerCase()}`,
    state.smin && `score from ${state.smin}`, state.smax && `score to ${state.smax}`, state.amin && `forged area from ${state.amin} %`,
  ].filter(Boolean).join(", ");
}
function showTable() {
  updateView();
  const page = currentPage(), size = Number(state.n), start = (page - 1) * size;
  const some = view.slice(start, start + size);
  $("rows").replaceChildren(...some.map(tableRow));
  const filters = describeFilters();
  const of = filters ? ` selected from ${number(images.length)} (${filters})` : "";
  $("shown").textContent = view.length
    ? `Images ${number(start + 1)} to ${number(start + some.length)} of ${number(view.length)}${of}, by ${SORT_NAMES[state.sort]}.`
    : `None of ${number(images.length)} images ${images.length ? `matches the filter (${filters})` : "to show"}.`;
  $("pager-text").textContent = `Page ${number(page)} of ${number(pages())}`;
  for (const button of $("pager").querySelectorAll("button")) {
    button.disabled = ["first", "previous"].includes(button.dataset.step) ? page === 1 : page === pages();
  }
  for (const button of document.querySelectorAll("#table th button")) {
    const sorted = button.dataset.sort === state.sort;
    button.parentElement.setAttribute("aria-sort", sorted ? (descending() ? "descending" : "ascending") : "none");
  }
  const form = $("filters");
  for (const field of form.elements) {
    if (field.name && field !== document.activeElement) field.value = state[field.name];
  }
}
