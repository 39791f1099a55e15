// ---- Groups of copies: one row in the table, which opens ----
const [G_NUMBER, G_SIZE, G_DIFFER, G_FIRST, G_MEMBERS] = Array(5).keys(); // see `Spool.groups_json`
const [C_IMAGE, C_DISTANCE, C_CONTENT] = Array(3).keys();
const MEMBERS_AT_ONCE = 100;
const groups = new Map(parse("data-groups").map((group) => [group[G_NUMBER], group]));
const groupOf = new Int32Array(images.length); // number of the group, 0: none
const copyOf = new Map(); // number of the image → its line in the group
for (const [id, group] of groups) {
  for (const copy of group[G_MEMBERS]) {
    groupOf[copy[C_IMAGE]] = id;
    copyOf.set(copy[C_IMAGE], copy);
  }
}
const opened = new Set(); // groups that are open in the table
let hits = new Map(); // group → how many of its images the filters select

// What was generated as a whole comes behind what is forged, whatever its verdict on edited regions.
const rank = (row) => (row[SECOND] === "generated" ? Math.min(0.5, RANK[row[VERDICT]]) : RANK[row[VERDICT]]);
const strongest = (i, j) => rank(images[i]) - rank(images[j]) || images[j][SCORE] - images[i][SCORE] || i - j;
const membersOf = (group) => group[G_MEMBERS].map((copy) => copy[C_IMAGE]).sort(strongest);

function collapsed(list) {
  const first = new Map();
  hits = new Map();
  for (const i of list) {
    const id = groupOf[i];
    if (!id) continue;
    const other = first.get(id);
    if (other === undefined || strongest(i, other) < 0) first.set(id, i);
    hits.set(id, (hits.get(id) ?? 0) + 1);
  }
  return list.filter((i) => !groupOf[i] || first.get(groupOf[i]) === i);
}
// The answers of those on this page, e.g. "2 forged, 1 no evidence".
function answers(group, field, words) {
  const given = group[G_MEMBERS].map((copy) => images[copy[C_IMAGE]][field]);
  return Object.keys(words).map((word) => [word, given.filter((one) => one === word).length]).filter(([, count]) => count)
    .map(([word, count]) => `${number(count)} ${words[word].toLowerCase()}`).join(", ");
}
function difference(group) {
  const here = group[G_MEMBERS].map((copy) => images[copy[C_IMAGE]]);
  const said = [[VERDICT, VERDICTS, ""], [SECOND, SECONDS, "generated: "]]
    .filter(([field]) => here.some((row) => row[field] !== here[0][field]))
    .map(([field, words, before]) => before + answers(group, field, words));
  return said.length ? `: ${said.join("; ")}` : ", one of them on another part of the report";
}
const elsewhere = (group) => group[G_SIZE] - group[G_MEMBERS].length;

function groupCell(i) {
  const group = groups.get(groupOf[i]);
  if (!group) return [];
  if (state.rows) return [el("small", null, `one of ${number(group[G_SIZE])} copies`)];
  const is = opened.has(group[G_NUMBER]), found = hits.get(group[G_NUMBER]) ?? 0;
  return [
    el("button", { type: "button", class: "opener", "aria-expanded": String(is), "data-group": group[G_NUMBER] },
      `${number(group[G_SIZE])} copies`),
    group[G_DIFFER] ? el("small", null, el("strong", null, "Different verdicts"), difference(group)) : null,
    found < group[G_MEMBERS].length ? el("small", null, `${number(found)} of them selected`) : null,
    elsewhere(group) ? el("small", null, `${number(elsewhere(group))} on other parts of the report`) : null,
  ];
}
// What an image is to the one that the others of its group are compared with.
function likeness(i) {
  const copy = copyOf.get(i), group = groups.get(groupOf[i]), first = group[G_FIRST];
  const others = group[G_MEMBERS].filter((one) => one !== copy && one[C_CONTENT] === copy[C_CONTENT]).length;
  const same = others ? `the same bytes as ${counted(others, "other")} here` : "";
  if (first === i) return ["the first of the group: the others are compared with it", same].filter(Boolean).join("; ");
  const of = first < 0 ? "the first of the group, on another part" : "the first of the group";
  const alike = copy[C_DISTANCE] ? `near ${of}: their perceptual hashes differ in ${copy[C_DISTANCE]} of 64 bits` : first >= 0 && copyOf.get(first)[C_CONTENT] === copy[C_CONTENT]
    ? `the same bytes as ${of}` : `looks the same as ${of}: 0 of 64 bits differ`;
  return same && !alike.startsWith("the same") ? `${alike}; ${same}` : alike;
}
// The rows below the row of an open group.
function memberRows(i) {
  const group = groups.get(groupOf[i]);
  if (!group || state.rows || !opened.has(group[G_NUMBER])) return [];
  const rest = membersOf(group).filter((j) => j !== i);
  const rows = rest.slice(0, MEMBERS_AT_ONCE).map((j) => tableRow(j, true));
  const more = rest.length - rows.length;
  if (more || elsewhere(group)) {
    rows.push(el("tr", { class: "member" }, el("td", { colspan: 9 },
      more ? el("a", { href: address({ ...DEFAULTS, n: state.n, group: String(group[G_NUMBER]), rows: "all" }) }, `All ${number(group[G_MEMBERS].length)} of this page`) : null,
      elsewhere(group) ? ` ${number(elsewhere(group))} more on other parts of the report.` : null)));
  }
  return rows;
}
function toggleGroup(id) {
  if (!opened.delete(id)) opened.add(id);
  showTable();
  $("rows").querySelector(`[data-group="${id}"]`)?.focus();
}
function showGroup(i) {
  const group = groups.get(groupOf[i]);
  $("group").hidden = !group;
  if (!group) return;
  const list = membersOf(group);
  $("group-differ").hidden = !group[G_DIFFER];
  $("group-differ").replaceChildren(el("strong", null, "The verdicts differ"), `${difference(group)}. Copies share their history, so there is a reason: one was edited after they parted, ` +
    "one was saved again or made smaller and may have lost the traces of an edit that another still has, or one of the verdicts is wrong. “No evidence” on one copy does not refute a finding on another. Compare them, and look at the earliest copy.");
  $("group-text").textContent = `${number(group[G_SIZE])} images of these results have the same bytes, or look like the first of them, as two pictures of one series can.` +
    (elsewhere(group) ? ` ${number(elsewhere(group))} of them are on other parts of the report.` : "");
  $("group-rows").replaceChildren(...list.slice(0, MEMBERS_AT_ONCE).map((j) => el("tr", { "aria-current": j === i ? "true" : null },
    el("td", { class: "name" }, j === i ? name(shownName(images[j])) : el("a", { href: addressOf(j) }, name(shownName(images[j]))), j === i ? el("small", null, "this image") : null),
    el("td", null, verdict(images[j][VERDICT])), el("td", { class: "num" }, fixed(images[j][SCORE], 3)),
    el("td", null, verdict(images[j][SECOND], SECONDS)), el("td", null, `${images[j][WIDTH]} × ${images[j][HEIGHT]}`), el("td", null, likeness(j)))));
  $("group-all").href = address({ ...DEFAULTS, n: state.n, group: String(group[G_NUMBER]), rows: "all" });
}
