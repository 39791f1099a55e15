// ---- The state of the view is the fragment of the address, so that a view can be linked. ----
const DEFAULTS = { q: "", verdict: "", second: "", kind: "", type: "", picture: "", copies: "", group: "", mark: "", smin: "", smax: "", amin: "",
  sort: "verdict", dir: "", p: "1", n: "50", rows: "", image: "", page: "", twin: "", side: "" };
let state = { ...DEFAULTS };

function readState() {
  const given = new URLSearchParams(location.hash.slice(1));
  state = { ...DEFAULTS };
  for (const key of Object.keys(DEFAULTS)) if (given.has(key)) state[key] = given.get(key);
  if (!Object.hasOwn(SORTS, state.sort)) state.sort = DEFAULTS.sort;
  if (!["50", "100", "250", "1000"].includes(state.n)) state.n = DEFAULTS.n;
  if (!Object.hasOwn(VERDICTS, state.verdict)) state.verdict = "";
  if (!Object.hasOwn(SECONDS, state.second)) state.second = "";
  if (state.kind && !shared.kinds.includes(state.kind)) state.kind = "";
  if (state.type && !shared.types.includes(state.type)) state.type = "";
  if (!Object.hasOwn(PICTURES, state.picture)) state.picture = "";
  if (!Object.hasOwn(COPIES, state.copies)) state.copies = "";
  if (!Object.hasOwn(MARK_FILTERS, state.mark)) state.mark = "";
  if (!groups.has(Number(state.group))) state.group = "";
  if (state.rows !== "all") state.rows = "";
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
let matching = 0; // images that the filters select; a group is one row of the view
const SCREEN = shared.kinds.indexOf("screen_or_drawing");
const PICTURES = { screen: "taken for a screen, drawing or page", other: "not taken for a screen, drawing or page" };
const COPIES = {
  grouped: { text: "has copies", holds: (group) => group !== undefined },
  differ: { text: "copies with different verdicts", holds: (group) => group !== undefined && group[G_DIFFER] },
  alone: { text: "has no copy", holds: (group) => group === undefined },
};
const MARK_FILTERS = {
  ...Object.fromEntries(Object.entries(MARKS).map(([key, text]) => [key, { text, holds: (notes) => notes.some((note) => note.mark === key) }])),
  none: { text: "none", holds: (notes) => !notes.some((note) => note.mark) },
  noted: { text: "has a note", holds: (notes) => notes.some((note) => note.note) },
};
// The choices of the filters, those with counts once over all rows of this page.
function fillFilters() {
  const kinds = new Uint32Array(shared.kinds.length), types = new Uint32Array(shared.types.length);
  for (const row of images) {
    types[row[TYPE]] += 1;
    if (row[KINDS] !== 0) for (const kind of row[KINDS]) kinds[kind] += 1;
  }
  const form = $("filters").elements;
  const add = (field, entries) => field.append(...entries.map(([value, text]) => el("option", { value }, text)));
  const by = (names, counts) => names.map((value, i) => [value, `${value.replaceAll("_", " ")} (${number(counts[i])})`, counts[i]]).filter((one) => one[2])
    .sort((a, b) => b[2] - a[2] || collator.compare(a[0], b[0]));
  add(form.kind, by(shared.kinds, kinds));
  add(form.type, by(shared.types, types));
  const screens = SCREEN < 0 ? 0 : kinds[SCREEN];
  add(form.picture, [["screen", `screen, drawing or page (${number(screens)})`], ["other", `other (${number(images.length - screens)})`]]);
  add(form.copies, Object.entries(COPIES).map(([key, one]) => [key, one.text]));
  add(form.mark, Object.entries(MARK_FILTERS).map(([key, one]) => [key, one.text]));
  for (const id of ["copies-filter", "rows-switch"]) $(id).hidden = !groups.size;
}

function bound(text, otherwise) {
  const value = Number.parseFloat(text.replace(",", "."));
  return Number.isFinite(value) ? value : otherwise;
}
function updateView() {
  const key = JSON.stringify([state.q, state.verdict, state.second, state.kind, state.type, state.picture, state.copies, state.group, state.mark,
    state.smin, state.smax, state.amin, state.sort, state.dir, state.rows, state.mark ? marksChanged : 0]);
  if (key === viewKey) return;
  viewKey = key;
  const wanted = state.q.toLowerCase();
  const low = bound(state.smin, -1), high = bound(state.smax, 2), area = bound(state.amin, -1) / 100;
  const kind = shared.kinds.indexOf(state.kind), type = shared.types.indexOf(state.type), group = Number(state.group);
  view = [];
  for (let i = 0; i < images.length; i += 1) {
    const row = images[i];
    if (state.verdict && row[VERDICT] !== state.verdict) continue;
    if (state.second && row[SECOND] !== state.second) continue;
    if (state.kind && !hasKind(row, kind)) continue;
    if (state.type && row[TYPE] !== type) continue;
    if (state.picture && hasKind(row, SCREEN) !== (state.picture === "screen")) continue;
    if (state.copies && !COPIES[state.copies].holds(groups.get(groupOf[i]))) continue;
    if (state.group && groupOf[i] !== group) continue;
    if (state.mark && !MARK_FILTERS[state.mark].holds(notesOf(i))) continue;
    if (row[SCORE] < low || row[SCORE] > high || row[AREA] < area) continue;
    if (wanted && !row[NAME].toLowerCase().includes(wanted)) continue;
    view.push(i);
  }
  matching = view.length;
  if (!state.rows && groups.size) view = collapsed(view);
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
const addressOf = (i) => address(placeOf(i));

function thumbnail(row) {
  if (!row[THUMB]) return el("span", { class: "none" }, "no picture");
  const image = el("img", { alt: "", loading: "lazy", decoding: "async", width: 96, height: 72 });
  image.addEventListener("error", () => image.replaceWith(el("span", { class: "none" }, "file missing")));
  image.src = row[THUMB];
  return image;
}
// With its own score: that of the column is about edited regions.
const second = (row) => [verdict(row[SECOND], SECONDS), row[SECOND_SCORE] === null ? null : el("small", null, `score ${fixed(row[SECOND_SCORE], 3)}`)];
function tableRow(i, member = false) {
  const row = images[i];
  return el("tr", { "data-image": i, class: member ? "member" : null },
    el("td", { class: "thumb" }, el("a", { href: addressOf(i), tabindex: "-1", "aria-hidden": "true" }, thumbnail(row))),
    el("td", { class: "name" }, el("a", { href: addressOf(i) }, name(row[NAME])),
      row[PAGES] > 1 ? el("small", null, `page ${row[PAGE] + 1} of ${row[PAGES]}`) : null,
      row[NOTE] ? el("small", null, row[NOTE]) : null,
      member ? el("small", null, likeness(i)) : null, ...(member ? [] : groupCell(i)), marksOf(i),
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
    state.kind && `finding ${state.kind.replaceAll("_", " ")}`, state.type && `file type ${state.type}`, state.picture && PICTURES[state.picture],
    state.copies && COPIES[state.copies].text, state.group && `group ${state.group}`, state.mark && `mark: ${MARK_FILTERS[state.mark].text}`,
    state.smin && `score from ${state.smin}`, state.smax && `score to ${state.smax}`, state.amin && `forged area from ${state.amin} %`,
  ].filter(Boolean).join(", ");
}
function showTable() {
  updateView();
  const page = currentPage(), size = Number(state.n), start = (page - 1) * size;
  const some = view.slice(start, start + size);
  $("rows").replaceChildren(...some.flatMap((i) => [tableRow(i), ...memberRows(i)]));
  const filters = describeFilters();
  const of = filters ? ` selected from ${number(images.length)} (${filters})` : "";
  $("shown").textContent = view.length < matching
    ? `Rows ${number(start + 1)} to ${number(start + some.length)} of ${number(view.length)}: ${counted(matching, "image")}${of}, copies as one row, by ${SORT_NAMES[state.sort]}.`
    : view.length
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
  $("one-group").hidden = !state.group;
  $("one-group").firstElementChild.textContent = `Only group ${state.group} is shown.`;
}
