// The page around a reader: takes pictures, shows what they say, and saves it as a table.

import { PictureError } from "./pictures.js";
import { openReader } from "./reader.js";

const UNSURE = 0.8; // confidence of a character below which it is marked

const element = (id) => document.getElementById(id);
const rows = []; // what was read: file, word, confidence, milliseconds
let waiting = 0; // pictures still to be read
let ready = false; // whether the reader is there

const opening = openReader();
opening.then(
  (reader) => {
    element("about").textContent =
      `${reader.name} reads one word a picture, in ${reader.characters.length} characters. Pictures stay in this browser.`;
    document.title = `${reader.name}: read words in pictures`;
    ready = true;
    report();
  },
  (error) => tell(`The reader can't be loaded: ${error.message}`, true),
);

for (const input of document.querySelectorAll("input[type=file]")) {
  input.addEventListener("change", () => {
    addAll(input.files);
    input.value = ""; // the same file may be chosen again
  });
}
element("camera").hidden = !matchMedia("(pointer: coarse)").matches; // elsewhere it would only choose files, too

document.addEventListener("paste", (event) => addAll(event.clipboardData.files));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("over");
});
document.addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) document.body.classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  addAll(event.dataTransfer.files);
});
element("clear").addEventListener("click", clear);
element("save").addEventListener("click", save);

/** Read files one after the other; each gets its place at once. */
function addAll(files) {
  for (const file of files) add(file);
}

async function add(file) {
  const article = element("reading").content.firstElementChild.cloneNode(true);
  const note = article.querySelector(".note");
  note.textContent = `${file.name} …`;
  element("readings").append(article);
  element("tools").hidden = false;
  waiting += 1;
  report();
  try {
    const reader = await opening;
    const reading = await reader.read(file);
    showReading(article, file, reading);
    // Cleared while it was being read, it is no longer shown.
    if (article.isConnected) rows.push([file.name, reading.text, reading.confidence.toFixed(4), reading.milliseconds.toFixed(1)]);
  } catch (error) {
    if (!(error instanceof PictureError)) console.error(error);
    article.classList.add("failed");
    article.querySelector("figure").remove();
    note.textContent = `${file.name}: ${error.message}`;
  }
  waiting -= 1;
  report();
}

function showReading(article, file, reading) {
  const image = article.querySelector("img");
  const url = URL.createObjectURL(file);
  image.addEventListener("load", () => {
    URL.revokeObjectURL(url);
    const { naturalWidth: width, naturalHeight: height } = image;
    image.parentElement.style.setProperty("--aspect", reading.turned ? height / width : width / height);
    if (reading.turned) image.replaceWith(turnedImage(image, reading.turned));
  });
  image.src = url;
  image.alt = reading.text;
  const word = article.querySelector(".word");
  const columns = article.querySelector(".columns");
  for (const { text, confidence, start, end } of reading.characters) {
    const part = document.createElement("span");
    part.classList.toggle("unsure", confidence < UNSURE);
    part.title = `${text}: ${percent(confidence)}`;
    part.append(tag("b", text), tag("small", percent(confidence)));
    word.append(part);
    const mark = document.createElement("i");
    mark.style.left = `${100 * start}%`;
    mark.style.width = `${100 * (end - start)}%`;
    columns.append(mark);
  }
  article.querySelector(".note").textContent = reading.characters.length
    ? `${file.name}: ${percent(reading.confidence)} sure of the word${reading.turned ? ", turned" : ""}, ${
      reading.milliseconds.toFixed(1)} ms`
    : `${file.name}: no character found`;
}

/** Draw a tall picture turned, as it was read. */
function turnedImage(image, degrees) {
  const canvas = document.createElement("canvas");
  canvas.width = 512;
  canvas.height = Math.max(Math.round((512 * image.naturalWidth) / image.naturalHeight), 1);
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", image.alt);
  const context = canvas.getContext("2d");
  context.translate(canvas.width / 2, canvas.height / 2);
  context.rotate((-degrees * Math.PI) / 180);
  context.drawImage(image, -canvas.height / 2, -canvas.width / 2, canvas.height, canvas.width);
  return canvas;
}

function clear() {
  element("readings").replaceChildren();
  rows.length = 0;
  element("tools").hidden = true;
}

/** Save what was read as a CSV file. */
function save() {
  const quote = (value) => `"${value.replaceAll('"', '""')}"`;
  const lines = [["file", "word", "confidence", "milliseconds"], ...rows].map((row) => row.map(quote).join(","));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([`${lines.join("\r\n")}\r\n`], { type: "text/csv" }));
  link.download = "readings.csv";
  link.click();
  URL.revokeObjectURL(link.href);
}

/** Tell how far it is, once there is a reader. */
function report() {
  if (ready) tell(waiting ? `Reading, ${waiting} to go …` : "Ready.");
}

function tell(text, failed = false) {
  const status = element("status");
  status.textContent = text;
  status.classList.toggle("failed", failed);
}

function tag(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

function percent(value) {
  return `${Math.floor(100 * value)}%`; // 99.9% is not 100
}
