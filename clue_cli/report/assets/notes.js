// ---- Marks and notes: of this browser, of a file, and those that `clue notes` has merged into the results ----
const MARKS = { checked: "checked", to_be_checked: "to be checked", not_relevant: "not relevant" };
const FORM = "clue-notes/1";
const KEPT = `${FORM} ${shared.run} `; // begins the browser's key of each note of this run
const [M_MARK, M_NOTE, M_WHO, M_WHEN] = Array(4).keys(); // a merged note: see `Spool`

const book = new Map(); // number of the image → person → note
const own = new Map(); // what a file of notes will hold, by locator, page and person: other parts of the page too
let who = "";
let keeps = true; // whether the browser can keep notes
let marksChanged = 0;
let asking = false; // for the person's name

// As `clue notes` takes them: lengths in characters, and no half of a surrogate pair.
const MOST_WHO = 200, MOST_NOTE = 100_000, MOST_LOCATOR = 65_536;
const wellFormed = (text) => text.replace(/\p{Cs}/gu, "\ufffd");
const personName = (text) => [...printable(text).trim()].slice(0, MOST_WHO).join("").trim();
const sane = (text, most) => [...text].length <= most && !/\p{Cs}/u.test(text);
const noteKey = (note) => JSON.stringify([note.locator, note.page, note.who]);
const newer = (note, than) => than === undefined || Date.parse(note.when) > Date.parse(than.when);
const says = (note) => note.mark !== null || note.note !== "";
const notesOf = (i) => [...(book.get(i)?.values() ?? [])].filter(says);
const ownNote = (i) => book.get(i)?.get(who);

function enter(i, note) {
  if (!book.has(i)) book.set(i, new Map());
  if (!newer(note, book.get(i).get(note.who))) return false;
  book.get(i).set(note.who, note);
  marksChanged += 1;
  return true;
}
let numbers = null;
function imageOf(note) {
  if (!numbers) numbers = new Map(images.map((row, i) => [`${row[PAGE]} ${locatorOf(row)}`, i]));
  return numbers.get(`${note.page} ${note.locator}`);
}
// A note as a file or the browser has it, null if it is none: both can hold anything.
function noteFrom(value) {
  if (typeof value !== "object" || value === null) return null;
  const { locator, page, sha256, mark = null, note = "", who: person, when } = value;
  const texts = [locator, sha256, note, person, when].every((text) => typeof text === "string");
  const sound = texts && Number.isInteger(page) && page >= 0 && /^([0-9a-f]{64})?$/.test(sha256) &&
    (mark === null || (typeof mark === "string" && Object.hasOwn(MARKS, mark))) && person.trim() !== "" &&
    sane(person, MOST_WHO) && sane(note, MOST_NOTE) && locator !== "" && [...locator].length <= MOST_LOCATOR &&
    /^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)$/.test(when) && Number.isFinite(Date.parse(when));
  return sound ? { locator, page, sha256, mark, note, who: person, when } : null;
}
function keep(note) {
  own.set(noteKey(note), note);
  try {
    localStorage.setItem(KEPT + noteKey(note), JSON.stringify(note));
  } catch {
    keeps = false; // full, or not allowed
  }
}
function fetchKept() {
  for (const key of Object.keys(localStorage)) if (key.startsWith(KEPT)) takeKept(localStorage.getItem(key));
}
function takeKept(text) {
  let value = null;
  try {
    value = JSON.parse(text);
  } catch { /* not written by this page */ }
  const note = noteFrom(value);
  if (!note) return undefined;
  note.filed = value.filed === true;
  if (!newer(note, own.get(noteKey(note)))) return undefined;
  own.set(noteKey(note), note);
  const i = imageOf(note);
  if (i !== undefined) enter(i, note);
  return i;
}
// A folder that was scanned again has another run: notes of the one before are offered.
let ofOtherRuns = [];
function findOfOtherRuns() {
  for (const key of Object.keys(localStorage)) {
    if (!key.startsWith(`${FORM} `) || key.startsWith(KEPT) || key === `${FORM} who`) continue;
    try {
      const note = noteFrom(JSON.parse(localStorage.getItem(key)));
      const i = note ? imageOf(note) : undefined;
      if (i !== undefined && newer(note, book.get(i)?.get(note.who))) ofOtherRuns.push(note);
    } catch { /* not written by this page */ }
  }
  $("other-runs").hidden = !ofOtherRuns.length;
  $("other-runs").firstElementChild.textContent = `This browser keeps ${counted(ofOtherRuns.length, "note")} of other runs on files with these names.`;
}
function takeOfOtherRuns() {
  let taken = 0;
  for (const note of ofOtherRuns) {
    const i = imageOf(note);
    if (note.sha256 && shaOf(i) === note.sha256 && enter(i, note)) {
      keep(note);
      taken += 1;
    }
  }
  sayLoaded(`${counted(taken, "note")} taken over; ${number(ofOtherRuns.length - taken)} left out: their files had another SHA-256, or there is a later note of the same person.`);
  ofOtherRuns = [];
  $("other-runs").hidden = true;
  refreshNotes();
}
function startNotes() {
  for (const [i, list] of Object.entries(parse("data-notes"))) {
    for (const one of list) enter(Number(i), { mark: one[M_MARK], note: one[M_NOTE], who: one[M_WHO], when: one[M_WHEN], merged: true });
  }
  try {
    localStorage.setItem(`${FORM} trial`, "");
    localStorage.removeItem(`${FORM} trial`);
    who = personName(localStorage.getItem(`${FORM} who`) ?? "");
    fetchKept();
    findOfOtherRuns();
  } catch {
    keeps = false;
  }
}
// The file's hash is in the details, which may not be there yet: then it is filled in when the notes are downloaded.
function shaOf(i) {
  return $(`data-details-${Math.floor(i / shared.blockSize)}`) ? detailOf(i).file[0] : "";
}
function write(i, changes) {
  const before = ownNote(i), row = images[i];
  const now = Math.max(Date.now(), before ? Date.parse(before.when) + 1 : 0); // a clock may have been set back
  const note = { locator: locatorOf(row), page: row[PAGE], sha256: shaOf(i), mark: before?.mark ?? null, note: before?.note ?? "",
    ...changes, who, when: new Date(now).toISOString() };
  if (before && before.mark === note.mark && before.note === note.note) return;
  if (!before && !says(note)) return;
  enter(i, note);
  keep(note);
  refreshNotes(i);
}
// What is done once the person's name is known.
let pending = null;
function named(action) {
  if (who) {
    action();
    return;
  }
  pending = action;
  asking = true;
  $("ask-who").showModal();
  $("ask-name").focus();
}
function setWho(text) {
  who = personName(text);
  try {
    localStorage.setItem(`${FORM} who`, who);
  } catch {
    keeps = false;
  }
  refreshNotes();
}
function mark(i, value) {
  named(() => {
    write(i, { mark: ownNote(i)?.mark === value ? null : value });
    const set = ownNote(i)?.mark ?? null;
    announce(`${shownName(images[i])}: ${set ? MARKS[set] : "no mark"}.`);
  });
}
function announce(text) {
  $("said").textContent = text;
}

// ---- The file of notes ----
const unmerged = () => [...own.values()].filter((note) => {
  const i = imageOf(note), known = i === undefined ? undefined : book.get(i).get(note.who);
  return !known?.merged;
});
function downloadNotes() {
  const notes = unmerged();
  for (const note of notes) {
    const i = imageOf(note);
    if (!note.sha256 && i !== undefined) note.sha256 = shaOf(i);
  }
  const whole = notes.filter((note) => note.sha256);
  const lines = whole.map(({ locator, page, sha256, mark: set, note, who: person, when }) => JSON.stringify({ locator, page, sha256, mark: set, note, who: person, when }));
  const text = `{"format": ${JSON.stringify(FORM)}, "run_id": ${JSON.stringify(shared.run)}, "notes": [\n${lines.join(",\n")}\n]}\n`;
  const url = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  el("a", { href: url, download: "notes.json" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
  for (const note of whole) if (!note.filed) keep(Object.assign(note, { filed: true }));
  refreshNotes();
  announce(whole.length < notes.length ? "Notes of images that are not loaded yet were left out. Download again when the page is complete."
    : `${counted(whole.length, "note")} downloaded as notes.json.`);
}
const counted = (count, word) => `${number(count)} ${word}${count === 1 ? "" : "s"}`;
async function loadNotes(file) {
  let value = null;
  try {
    value = JSON.parse(await file.text());
  } catch {
    sayLoaded(`${file.name} was not read: it is no JSON. Choose a notes.json that this page or another copy of it has written.`);
    return;
  }
  if (value?.format !== FORM || !Array.isArray(value.notes)) {
    sayLoaded(`${file.name} was not read: it does not say that its format is ${FORM}. Choose a notes.json that this page or another copy of it has written.`);
    return;
  }
  const counts = { taken: 0, old: 0, other: 0, absent: 0, wrong: 0 };
  for (const one of value.notes) {
    const note = noteFrom(one);
    const i = note ? imageOf(note) : undefined;
    if (!note) counts.wrong += 1;
    else if (i === undefined) counts.absent += 1;
    else if (!note.sha256 || shaOf(i) !== note.sha256) counts.other += 1;
    else if (enter(i, Object.assign(note, { filed: true }))) {
      keep(note);
      counts.taken += 1;
    } else counts.old += 1;
  }
  refreshNotes();
  if (!state.image) showTable();
  sayLoaded([
    `${counted(counts.taken, "note")} taken from ${file.name}.`,
    value.run_id === shared.run ? "" : "It was written for another run.",
    counts.old ? `${number(counts.old)} were known already, or there is a later one of the same person.` : "",
    counts.absent ? `${number(counts.absent)} are of images that are not on this page.` : "",
    counts.other ? `${number(counts.other)} are of files with another SHA-256 than here, and were left out.` : "",
    counts.wrong ? `${number(counts.wrong)} are damaged, and were left out.` : "",
  ].filter(Boolean).join(" "));
}
function sayLoaded(text) {
  $("notes-loaded").hidden = false;
  $("notes-loaded").textContent = printable(text);
}

// ---- What is shown of them ----
function marksOf(i) {
  const list = notesOf(i);
  if (!list.length) return el("small", { class: "marks", hidden: "" });
  const different = new Set(list.map((note) => note.mark).filter(Boolean)).size > 1;
  return el("small", { class: "marks" }, ...list.slice(0, 5).map((note) => el("span", { class: note.mark ?? "noted" },
    note.mark ? MARKS[note.mark] : "note", note.mark && note.note ? " and a note" : "", " (", name(printable(note.who)), ")")),
    list.length > 5 ? el("span", null, `and ${number(list.length - 5)} more`) : null,
    different ? el("strong", null, "the marks differ") : null);
}
function refreshNotes(i) {
  for (const old of document.querySelectorAll("#rows tr .marks")) {
    const shown = Number(old.closest("tr").dataset.image);
    if (i === undefined || i === shown) old.replaceWith(marksOf(shown));
  }
  if (open !== null && open >= 0 && (i === undefined || i === open)) showNotes(open);
  const notes = unmerged(), loose = notes.filter((note) => !note.filed).length;
  $("who").value = who;
  $("download-notes").disabled = !notes.length;
  $("notes-state").textContent = !notes.length ? "No notes of this browser."
    : `${counted(notes.length, "note")}${keeps ? " kept in this browser" : ""}, ${loose ? `${number(loose)} of them in no file yet` : "all of them in a file"}.`;
  $("notes-lost").hidden = keeps;
}
function showNotes(i) {
  const mine = ownNote(i);
  for (const button of document.querySelectorAll("#marks [data-mark]")) button.setAttribute("aria-pressed", String(mine?.mark === button.dataset.mark));
  if (!typed) $("note").value = mine?.note ?? "";
  const lines = notesOf(i).map((note) => el("li", null, el("strong", null, name(printable(note.who))),
    `, ${note.when.slice(0, 16).replace("T", " ")}${note.when.endsWith("Z") ? " UTC" : ` (UTC${note.when.match(/[+-]\d\d:?\d\d$/)?.[0] ?? ""})`}: `,
    note.mark ? `${MARKS[note.mark]}. ` : "", note.note ? el("span", { class: "words-of" }, name(printable(note.note))) : null,
    note.merged ? el("small", null, "in the results folder") : null));
  $("notes-list").replaceChildren(...lines);
  $("notes-list").hidden = !lines.length;
}
