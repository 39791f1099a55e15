// ---- One image ----
// Two names can look the same on the page: one with an invisible character, one with what stands for it. The second is a twin.
const likeNames = (text, page) => images.flatMap((row, i) => (row[NAME] === text && row[PAGE] === page ? [i] : []));
const find = (text, page, twin) => likeNames(text, page)[twin] ?? -1;
let twins = null; // number of the image → how many before it look the same
function twinOf(i) {
  if (!twins) {
    const met = new Map();
    twins = new Map();
    images.forEach((row, j) => {
      const key = `${row[PAGE]} ${row[NAME]}`, before = met.get(key) ?? 0;
      if (before) twins.set(j, before);
      met.set(key, before + 1);
    });
  }
  return twins.get(i) ?? 0;
}
// What the address says of an image. Other names than those with a spelled-out character have no twin.
function placeOf(i) {
  const row = images[i], twin = row[NAME].includes("⟨U+") ? twinOf(i) : 0;
  return { image: row[NAME], page: row[PAGE] ? String(row[PAGE]) : "", twin: twin ? String(twin) : "" };
}
let blockNumber = -1, block = null;
function detailOf(i) {
  const wanted = Math.floor(i / shared.blockSize);
  if (wanted !== blockNumber) [blockNumber, block] = [wanted, parse(`data-details-${wanted}`)];
  return block[i % shared.blockSize];
}
let open = null; // number of the image in view, -1 for one that is not here

function pairs(title, entries) {
  const list = entries.filter(([, value]) => value !== null && value !== undefined);
  return el("section", null, el("h2", null, title), el("dl", null, ...list.map(([label, value, style]) =>
    el("div", null, el("dt", null, label), el("dd", { class: style }, typeof value === "string" ? name(value) : value)))));
}
function sentences(title, list) {
  if (!list.length) return null;
  return el("section", null, el("h2", null, title), el("ul", null, ...list.map((text) => el("li", null, name(text)))));
}
const SOURCES = { pixels: "Pixels", metadata: "Metadata (unverified)", container: "Container", file: "File" };
const WEIGHTS = { supports_edit: "Supports an edit", speaks_against: "Speaks against an edit", information: "" };
function findings(list) {
  if (!list.length) return null;
  const lines = list.map(([source, weight, statement]) => el("li", null, el("small", null, `${SOURCES[source]}: `),
    WEIGHTS[weight] ? el("strong", null, `${WEIGHTS[weight]}. `) : null, name(statement)));
  return el("section", null, el("h2", null, "Findings"), el("ul", null, ...lines));
}
function explanations(list) {
  if (!list) return null;
  const texts = list.flatMap(([text, model, digest, made]) => [el("p", null, name(text)),
    el("p", { class: "small" }, "Language model: ", name(model), `, ${made}, SHA-256 `, el("span", { class: "code" }, digest))]);
  return el("section", null, el("h2", null, "Written by a language model"),
    el("p", { class: "small" }, "Generated text, and no part of the record. Each sentence is of a known form, with the record's numbers, regions and " +
      "verdict. What it says the picture shows was not checked."), ...texts);
}
// The path is shown too: a printed page has no links.
function link(url, text) {
  if (!url) return null;
  return el("span", null, el("a", { href: url }, text), el("small", { class: "code" }, name(pathOf(url))));
}
function pathOf(url) {
  try {
    return decodeURIComponent(url);
  } catch {
    return url; // bytes that are not UTF-8 stay percent-encoded
  }
}

function showRecord(row, detail) {
  const model = shared.models[detail.model];
  const [sha, size, sniffed, claimed] = detail.file;
  const exif = detail.exif;
  const [read, decode, predict, write] = detail.seconds.map((value) => `${fixed(value, 3)} s`);
  const sections = [
    findings(detail.findings),
    secondFacts(row, detail.second),
    explanations(detail.explanations),
    pairs("File", [
      ["SHA-256", sha, "code"], ["Size", bytes(size)], ["Type by content", sniffed],
      ["Type by name", claimed === null ? "the name says nothing" : claimed],
      ["Page", row[PAGES] > 1 ? `${row[PAGE] + 1} of ${row[PAGES]}` : null],
      ["Pixels", `${number(row[WIDTH])} × ${number(row[HEIGHT])}, as displayed`],
    ]),
    pairs("The file says (EXIF, unverified)", [
      ["Camera make", exif.camera_make], ["Camera model", exif.camera_model], ["Software", exif.software],
      ["Taken", exif.date_time_original], ["Digitized", exif.date_time_digitized], ["Changed", exif.date_time_modified],
      ["GPS position", exif.gps_present ? "present" : "none"],
      ["Thumbnail", exif.thumbnail_present ? "present" : "none"],
    ]),
    pairs("Results as files", [
      ["Mask", link(detail.urls.mask, "PNG, 0 or 255")],
      ["Heatmap", link(detail.urls.heatmap, "PNG, 16 bit")],
      ["Heatmap of the second question", link(detail.urls.synthetic_heatmap, "PNG, 16 bit")],
      ["Verdict", link(detail.urls.verdict, "JSON")],
    ]),
  ];
  $("what").replaceChildren(...sections.filter(Boolean));
  const how = [
    pairs("Model and settings", [
      ["Model", model.name], ["Digest", model.digest, "code"], ["Device", `${model.device}, ${model.dtype}`],
      ["Noise", model.noise_schedule],
      ["Noise levels", model.noise_levels.length ? model.noise_levels.join(", ") : null],
      ["Seed", detail.seed, "code"],
      ["Calibration", model.calibration === null ? "none" : model.calibration],
      ["Calibration digest", model.calibration_sha256, "code"],
      ["p-value", detail.p === null ? null : `${detail.p}, among the authentic photos of the calibration`],
      ["Threshold", `${detail.thresholds[0]} for a pixel, ${detail.thresholds[1]} for the score`],
      ["Tiles", `${number(detail.tiles[2])} of ${detail.tiles[0]} px, overlap ${detail.tiles[1]} px`],
    ]),
    sentences("Decoding", detail.decoding),
    pairs("Time", [["Reading", read], ["Decoding", decode], ["Model", predict], ["Writing", write]]),
  ];
  $("how").replaceChildren(...how.filter(Boolean));
}
function showSecond(row, detail) {
  const second = detail.second;
  $("detail-second").replaceChildren(el("span", null, "Was the whole picture generated? "), verdict(row[SECOND], SECONDS),
    name(second ? second.reason : "The verdict above is about edited regions alone: it is no evidence for or against a generated picture."));
  $("second-layer").hidden = !detail.urls.synthetic_overlay;
  setPicture($("second"), detail.urls.synthetic_overlay);
  const layer = $("layers").elements.layer;
  if (!detail.urls.synthetic_overlay && layer.value === "second") layer.value = "over";
}
function showPlainWords(list) {
  $("plain-words").hidden = !list;
  $("plain-words-text").replaceChildren(...(list ?? []).map((text) => el("p", null, name(typeof text === "number" ? shared.phrases[text] : text))));
}
function secondFacts(row, second) {
  if (!second) return null;
  return pairs("Was the whole picture generated?", [
    ["Answer", SECONDS[row[SECOND]]],
    ["Score", row[SECOND_SCORE] === null ? "none" : fixed(row[SECOND_SCORE], 4)],
    ["p-value", second.p === null ? null : `${second.p}, among the authentic photos of the calibration`],
    ["Thresholds", `${second.thresholds[0]} and ${second.thresholds[1]}`],
    ["Confidence", second.confidence === null ? "not given" : confidence(second.confidence)],
    ["Method", second.method], ["Method digest", second.digest, "code"], ["Calibration", second.calibration],
    ...second.parts,
  ]);
}
function placed(box, row, x, y, width, height) {
  box.style.left = `${(100 * x) / row[WIDTH]}%`;
  box.style.top = `${(100 * y) / row[HEIGHT]}%`;
  box.style.width = `${(100 * width) / row[WIDTH]}%`;
  box.style.height = `${(100 * height) / row[HEIGHT]}%`;
  return box;
}
function matchingPlace(place) {
  if (!place) return "–";
  const [x, y, width, height, likeness, scale, turned, mirrored] = place;
  return [`${number(x)}, ${number(y)}, ${number(width)} × ${number(height)}: ${percent(likeness, 0)} of the region match`,
    mirrored ? "mirrored" : "", Math.abs(turned) >= 2 ? `turned by ${Math.round(turned)}°` : "",
    Math.abs(scale - 1) >= 0.03 ? `${fixed(scale, 2)} times its size` : ""].filter(Boolean).join(", ");
}
function showRegions(row, detail) {
  const rows = detail.regions.map(([x, y, width, height, area, ratio, mean, peak, place], i) => {
    const line = el("tr", null, el("th", { scope: "row", class: "num" }, String(i + 1)),
      ...[number(x), number(y), number(width), number(height), number(area), percent(ratio, 2), fixed(mean, 3), fixed(peak, 3)]
        .map((text) => el("td", { class: "num" }, text)), el("td", null, matchingPlace(place)));
    line.addEventListener("mouseenter", () => $("boxes").children[i].classList.add("picked"));
    line.addEventListener("mouseleave", () => $("boxes").children[i].classList.remove("picked"));
    return line;
  });
  $("region-rows").replaceChildren(...rows);
  $("regions-box").hidden = !rows.length;
  $("regions-text").textContent = !row[REGIONS] ? "No region is marked."
    : `${number(row[REGIONS])} ${row[REGIONS] === 1 ? "region" : "regions"}` +
      (rows.length < row[REGIONS] ? `; the ${rows.length} largest are listed.` : ".") +
      " Positions and sizes in pixels of the image; mean and peak of the heatmap." +
      (detail.regions.some((region) => region[8]) ? " A dashed frame shows the place that a region matches: one may be a copy of the other, or both belong to a pattern that repeats." : "");
  $("boxes").replaceChildren(...detail.regions.map(([x, y, width, height], i) => {
    const box = el("div", { class: y + height > 0.97 * row[HEIGHT] && y > 0.06 * row[HEIGHT] ? "box" : "box low" }, el("b", null, String(i + 1)));
    return placed(box, row, x, y, width, height);
  }), ...detail.regions.flatMap(([, , , , , , , , place], i) => (place
    ? [placed(el("div", { class: "box match" }, el("b", null, `matches ${i + 1}`)), row, ...place.slice(0, 4))] : [])));
}
function showMissing(row, detail) {
  const bands = detail.missing;
  $("missing-bands").replaceChildren(...bands.map((band) => placed(el("div", { class: "box hatch" }), row, ...band.slice(0, 4))));
  $("missing-text").hidden = !bands.length;
  $("missing-text").lastElementChild.textContent = !bands.length ? "" :
    `Hatched: ${bands.map((band) => `rows ${band[4]} to ${band[5]}`).join(" and ")} of the picture as stored were not examined. ` +
    `${bands[0][6]}. Areas and shares are of what was examined.`;
}
function showThumbnails(detail) {
  const url = detail.urls.embedded_thumbnail;
  $("thumbnails").hidden = !url;
  setPicture($("own-thumbnail"), url);
  setPicture($("shown-thumbnail"), url && detail.urls.preview);
}
const PANELS = {
  error_level_analysis: "Error level analysis (Krawetz 2007)",
  jpeg_ghosts: "JPEG ghosts (Farid 2009)",
  noise_inconsistency: "Noise inconsistency",
};
function showPanels(row, detail) {
  const shown = Object.entries(PANELS).filter(([key]) => detail.urls[key]);
  $("panels").hidden = !shown.length;
  $("panel-figures").replaceChildren(...shown.map(([key, title]) => el("figure", { class: "panel" },
    el("a", { href: detail.urls[key] }, el("img", { src: detail.urls[key], alt: `${title} of ${shownName(row)}` })),
    el("figcaption", null, `${title}: an aid, not a verdict`))));
}
const STRIP = 60;
let stretched = false;
function setPicture(image, url) {
  if (url) image.src = url;
  else image.removeAttribute("src");
}
function showPictures(row, detail) {
  const urls = detail.urls;
  // A narrow strip is shown stretched: else it would be a line, or metres high.
  stretched = Math.max(row[WIDTH] / row[HEIGHT], row[HEIGHT] / row[WIDTH]) > STRIP;
  for (const stage of document.querySelectorAll(".stage")) {
    stage.style.setProperty("--w", Math.max(row[WIDTH], row[HEIGHT] / STRIP));
    stage.style.setProperty("--h", Math.max(row[HEIGHT], row[WIDTH] / STRIP));
    stage.classList.toggle("pixels", Math.max(row[WIDTH], row[HEIGHT]) <= 128);
  }
  $("pictures-missing").hidden = Boolean(urls.preview);
  if (!urls.preview) $("pictures-missing").textContent = "There is no preview of this image in the results.";
  $("base").alt = $("plain").alt = `The image ${shownName(row)}`;
  for (const id of ["base", "plain"]) setPicture($(id), urls.preview);
  setPicture($("heat"), urls.heat_overlay);
  setPicture($("outline"), urls.outline);
  $("mask").dataset.url = urls.mask;
  $("mask").removeAttribute("src");
  showLayers();
  $("frame").scrollTo(0, 0);
}
function showLayers() {
  const form = $("layers").elements;
  const layer = form.layer.value, wipe = Number(form.wipe.value), opacity = Number(form.opacity.value);
  // The mask is the result itself, at full size: it is loaded only when it is asked for.
  if (layer === "mask" && !$("mask").hasAttribute("src")) setPicture($("mask"), $("mask").dataset.url);
  $("black").hidden = !["heat", "mask"].includes(layer);
  $("mask").hidden = layer !== "mask";
  $("heat").hidden = !["over", "heat"].includes(layer) || !$("heat").hasAttribute("src");
  $("second").hidden = layer !== "second" || !$("second").hasAttribute("src");
  $("second").style.opacity = opacity / 100;
  $("heat").style.opacity = layer === "heat" ? 1 : opacity / 100;
  $("outline").hidden = !form.outline.checked || !$("outline").hasAttribute("src");
  $("boxes").hidden = !form.boxes.checked;
  $("stage").style.setProperty("--wipe", `${wipe}%`);
  $("stage").style.setProperty("--zoom", form.zoom.value);
  form.opacity.disabled = !["over", "second"].includes(layer);
  $("wipe-text").textContent = `${wipe} %`;
  form.wipe.setAttribute("aria-valuetext", `the first ${wipe} percent of the width without marks`);
  $("opacity-text").textContent = `${opacity} %`;
  $("legend-text").textContent = layer === "second"
    ? "evidence that the whole picture was generated, on the method’s own scale; low values are not drawn"
    : "probability that a pixel belongs to an edited region; low values are not drawn";
  $("caption").textContent = {
    over: "The image with the heatmap", heat: "The heatmap alone", mask: "The mask alone", none: "The image",
    second: "The image with what the method of the second question found, where it speaks for a generated picture",
  }[layer] + (form.outline.checked ? " and the outline of the mask" : "") + "." + (stretched ? " Stretched: the image is a narrow strip." : "");
}
function showDetail(i) {
  if (i === open && i >= 0) {
    showSideBySide(i);
    return;
  }
  saveNote(); // of the image that was in view
  noteFor = null;
  typed = false;
  open = i;
  $("missing").hidden = i >= 0;
  $("detail-body").hidden = i < 0;
  updateView();
  // A copy that is not in the table itself has the place of its group.
  const inTable = view.includes(i) ? i : groupOf[i] ? view.find((j) => groupOf[j] === groupOf[i]) : undefined;
  const list = inTable === undefined ? images.map((_, j) => j) : view;
  const at = list.indexOf(inTable ?? i);
  for (const [id, step] of [["before", -1], ["after", 1]]) {
    const target = i < 0 ? undefined : list[at + step];
    $(id).disabled = target === undefined;
    $(id).dataset.image = target === undefined ? "" : target;
  }
  $("position").textContent = i < 0 ? "" : `${number(at + 1)} of ${number(list.length)}`;
  if (i < 0) {
    $("note").value = "";
    $("missing").textContent = `This page holds no image ${state.image}. It may be in another part of the report.`;
    return;
  }
  const row = images[i], detail = detailOf(i);
  $("detail-title").replaceChildren(name(shownName(row)));
  $("detail-verdict").replaceChildren(el("span", null, "Was a part of the picture edited? "), verdict(row[VERDICT]), name(detail.reason));
  const figures = [
    ["Score", fixed(row[SCORE], 4), `threshold ${detail.thresholds[1]}`],
    ["Confidence", confidence(row[CONFIDENCE]), row[CONFIDENCE] === null ? "not given" : "that the verdict is right"],
    ["Forged area", percent(row[AREA], 2), detail.missing.length ? "of the examined pixels" : "of the pixels"],
    ["Regions", number(row[REGIONS]), "connected groups"],
    ["Size", `${row[WIDTH]} × ${row[HEIGHT]}`, `pixels, ${fixed((row[WIDTH] * row[HEIGHT]) / 1e6, 2)} megapixels`],
  ];
  $("detail-numbers").replaceChildren(...figures.map(([label, value, note]) =>
    el("div", null, el("dt", null, label), el("dd", null, value, el("small", null, note)))));
  showSecond(row, detail);
  showPlainWords(detail.words);
  showGroup(i);
  showNotes(i);
  showSideBySide(i);
  showRegions(row, detail);
  showPictures(row, detail);
  showMissing(row, detail);
  showThumbnails(detail);
  showPanels(row, detail);
  showRecord(row, detail);
}
