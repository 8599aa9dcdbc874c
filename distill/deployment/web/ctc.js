// Decode CTC logits to a word, number for number as students/decoding.py does.

import { beamSearch } from "./beam_search.js";

const BLANK = 0;
const SURE = 0.95; // confidence from which on no language model is asked

/**
 * @typedef {{text: string, confidence: number, start: number, end: number}} Character
 * its confidence is the highest of the columns that it was read from, which are from start to end of the picture
 */

/** @typedef {{text: string, confidence: number, characters: Character[]}} Reading */

/**
 * Decode the logits of one picture.
 *
 * @param {Float32Array} logits columns × classes, the blank first
 * @param {string[]} characters what the other classes stand for
 * @param {?import("./language_model.js").LanguageModel} languageModel weighs words that the columns are less sure of
 *     than `SURE`; null takes the best path always
 * @returns {Reading} the confidence is the word's, over all of its alignments with the columns
 */
export function decodeCtc(logits, characters, languageModel = null) {
  const classes = characters.length + 1;
  const columns = logits.length / classes;
  const probabilities = Array.from({ length: columns }, (_, column) =>
    softmax(logits.subarray(column * classes, (column + 1) * classes)));
  const best = probabilities.map((column) => column.indexOf(Math.max(...column)));
  const found = [];
  for (let start = 0, end; start < columns; start = end) {
    for (end = start + 1; end < columns && best[end] === best[start]; end += 1);
    if (best[start] === BLANK) continue;
    const confidence = Math.max(...probabilities.slice(start, end).map((column) => column[best[start]]));
    found.push({ text: characters[best[start] - 1], confidence, start: start / columns, end: end / columns });
  }
  const word = best.filter((id, column) => id !== BLANK && id !== best[column - 1]);
  const reading = assemble(found, sumAlignments(probabilities, word));
  return languageModel && reading.confidence < SURE ? weigh(probabilities, characters, reading, languageModel) : reading;
}

/** Weigh what the columns say, `reading` being their best path; letters that differ in case alone are one class here. */
function weigh(probabilities, characters, reading, languageModel) {
  const columns = probabilities.length;
  const names = [...new Set(["", ...characters.map(lower)])];
  const caseless = ["", ...characters].map((character) => names.indexOf(lower(character)));
  const merged = probabilities.map((column) => {
    const sums = new Float64Array(names.length);
    column.forEach((probability, id) => { sums[caseless[id]] += probability; });
    return sums;
  });
  const beam = beamSearch(merged, BLANK).map(({ word, probability }) => {
    const text = word.map((token) => names[token]).join("");
    return { word, text, probability, prior: languageModel.prior(text) };
  });
  const total = beam.reduce((sum, { probability }) => sum + probability, 0);
  const expected = beam.reduce((sum, { probability, prior }) => sum + probability * prior, 0) / total;
  if (!(expected > 0)) return reading;
  const chosen = beam.reduce((a, b) => (b.probability * b.prior > a.probability * a.prior ? b : a));
  const gain = chosen.prior / expected;
  if (chosen.text === reading.characters.map(({ text }) => lower(text)).join("")) {
    return { ...reading, confidence: Math.min(reading.confidence * gain, 1) };
  }
  const word = [];
  const found = align(merged, chosen.word).map(([start, end], place) => {
    const own = probabilities.slice(start, end);
    const sums = caseless.map((token, id) =>
      (token === chosen.word[place] ? own.reduce((sum, column) => sum + column[id], 0) : -1));
    const id = sums.indexOf(Math.max(...sums));
    word.push(id);
    const confidence = Math.max(...own.map((column) => column[id]));
    return { text: characters[id - 1], confidence, start: start / columns, end: end / columns };
  });
  return assemble(found, Math.min(sumAlignments(probabilities, word) * gain, 1));
}

function assemble(characters, confidence) {
  return { text: characters.map(({ text }) => text).join(""), confidence, characters };
}

function lower(character) {
  const small = character.toLowerCase();
  return [...small].length === [...character].length ? small : character;
}

/** Find the columns, from start to before end, of each character of a word in its most likely alignment. */
function align(probabilities, word) {
  const states = [BLANK, ...word.flatMap((id) => [id, BLANK])];
  const skips = states.map((id, state) => id !== BLANK && state > 1 && id !== states[state - 2]);
  const emitted = (column, id) => Math.log(Math.max(column[id], 1e-300));
  let best = states.map((id, state) => (state < 2 ? emitted(probabilities[0], id) : -Infinity));
  const steps = [[]];
  for (const column of probabilities.slice(1)) {
    const before = states.map((_, state) =>
      [best[state], state > 0 ? best[state - 1] : -Infinity, skips[state] ? best[state - 2] : -Infinity]);
    steps.push(before.map((scores) => scores.indexOf(Math.max(...scores))));
    best = before.map((scores, state) => Math.max(...scores) + emitted(column, states[state]));
  }
  let state = states.length - 1;
  if (state > 0 && best[state - 1] > best[state]) state -= 1;
  const spans = word.map(() => [Infinity, 0]);
  for (let column = probabilities.length - 1; column >= 0; column -= 1) {
    if (state % 2) spans[(state - 1) / 2] = [column, Math.max(spans[(state - 1) / 2][1], column + 1)];
    state -= steps[column][state] ?? 0;
  }
  return spans;
}

function softmax(values) {
  const most = Math.max(...values);
  const exponents = Float64Array.from(values, (value) => Math.exp(value - most));
  const total = exponents.reduce((sum, value) => sum + value, 0);
  return exponents.map((value) => value / total);
}

/** Sum the probabilities of all alignments of a word: CTC's forward recursion. */
function sumAlignments(probabilities, word) {
  const path = [BLANK, ...word.flatMap((id) => [id, BLANK])];
  const skips = path.map((id, state) => id !== BLANK && state > 1 && id !== path[state - 2]);
  let reached = path.map((id, state) => (state < 2 ? probabilities[0][id] : 0));
  for (const column of probabilities.slice(1)) {
    reached = path.map((id, state) =>
      column[id] * (reached[state] + (state > 0 ? reached[state - 1] : 0) + (skips[state] ? reached[state - 2] : 0)));
  }
  return Math.min(reached.slice(-2).reduce((sum, value) => sum + value, 0), 1);
}
