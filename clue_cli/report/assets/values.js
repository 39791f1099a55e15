// The order of the fields in a row of the table of images, and of failures: see `image_row` and `failure_row` in report/rows.py,
// for the last three `Spool`: numbers of kinds of findings or 0, number of the type, and the locator where the name is not it.
const [NAME, PAGE, PAGES, VERDICT, SCORE, CONFIDENCE, AREA, REGIONS, WIDTH, HEIGHT, THUMB, NOTE, SECOND, SECOND_SCORE, KINDS, TYPE, LOCATOR] = Array(17).keys();
const [F_NAME, F_PAGE, F_STEP, F_CODE, F_MESSAGE, F_ADVICE, F_SHA] = Array(7).keys();
const VERDICTS = { forged: "Forged", inconclusive: "Inconclusive", no_evidence: "No evidence" };
const RANK = { forged: 0, inconclusive: 1, no_evidence: 2 };
// The second question: was the whole picture generated?
const SECONDS = { generated: "Generated", inconclusive: "Inconclusive", no_evidence: "No evidence", not_asked: "Not asked" };
const SECOND_RANK = { generated: 0, inconclusive: 1, no_evidence: 2, not_asked: 3 };
const FAILURES_AT_ONCE = 200;

const $ = (id) => document.getElementById(id);
const parse = (id) => JSON.parse($(id).textContent);
const shared = parse("data-shared");
const images = parse("data-rows");
const failures = parse("data-failures");
const locatorOf = (row) => (row[LOCATOR] === undefined ? row[NAME] : row[LOCATOR]);
const hasKind = (row, kind) => row[KINDS] !== 0 && row[KINDS].includes(kind);

// Everything from the evidence goes through here: strings become text nodes, never markup.
function el(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}
// Like `printable` in report/inert.py, for what comes from the browser or a file; lines stay lines.
const printable = (text) => text.replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, (character) => (character === "\n" ? character
  : `⟨U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`));
const listen = (target, event, action, options) => target.addEventListener(event, action, options);
const name = (text) => el("bdi", null, text);
const thousands = new Intl.NumberFormat("en");
const number = (value) => thousands.format(value);
const fixed = (value, digits) => value.toFixed(digits);

function percent(ratio, digits) {
  const smallest = 10 ** -digits;
  const value = ratio * 100;
  if (value > 0 && value < smallest) return `< ${smallest} %`;
  if (value < 100 && value > 100 - smallest) return `> ${fixed(100 - smallest, digits)} %`;
  return `${fixed(value, digits)} %`;
}
// A calibrated probability is an estimate; it is never shown as certainty.
const confidence = (value) => (value === null ? "–" : value > 0.99 ? "> 99 %" : `${Math.round(value * 100)} %`);
const shownName = (row) => row[NAME] + (row[PAGES] > 1 ? `, page ${row[PAGE] + 1} of ${row[PAGES]}` : "");
const bytes = (count) => `${number(count)} bytes`;
function verdict(code, words = VERDICTS) {
  return el("span", { class: `verdict ${code}` }, el("i", { class: "mark", "aria-hidden": "true" }), words[code]);
}
