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

/** Weigh what the columns say, `reading` being their best path; both cases of a letter are one character here. */
function weigh(probabilities, characters, reading, languageModel) {
  const columns = probabilities.length;
  const names = [...new Set(["", ...characters.map(lower)])];
  const caseless = ["", ...characters].map((character) => names.indexOf(lower(character)));
  const beam = beamSearch(probabilities, BLANK, caseless).map(({ word, probability }) => {
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
  const choices = chosen.word.map((token) => [...caseless.keys()].filter((id) => caseless[id] === token));
  const aligned = align(probabilities, choices);
  const found = aligned.map(([id, start, end]) => {
    const confidence = Math.max(...probabilities.slice(start, end).map((column) => column[id]));
    return { text: characters[id - 1], confidence, start: start / columns, end: end / columns };
  });
  return assemble(found, Math.min(sumAlignments(probabilities, aligned.map(([id]) => id)) * gain, 1));
}

function assemble(characters, confidence) {
  return { text: characters.map(({ text }) => text).join(""), confidence, characters };
}

function lower(character) {
  const small = character.toLowerCase();
  return [...small].length === [...character].length ? small : character;
}

/**
 * Find the class of each character of a word, and its columns from start to before end, in the most likely alignment.
 *
 * @param {Float64Array[]} probabilities
 * @param {number[][]} word by place, the classes that may stand there, such as both cases of a letter
 */
function align(probabilities, word) {
  // A state is a class in a place: blanks have the places 0, 2, ..., characters those between.
  const states = [{ place: 0, id: BLANK }];
  word.forEach((ids, number) => states.push(
    ...ids.map((id) => ({ place: 2 * number + 1, id })), { place: 2 * number + 2, id: BLANK }));
  const before = states.map((to) => [...states.keys()].reverse().filter((state) => { // of equal ones the last: it stays
    const { place, id } = states[state];
    const ahead = to.place - place;
    return states[state] === to || ahead === 1 || (ahead === 2 && place % 2 === 1 && id !== to.id);
  }));
  const emitted = (column, { id }) => Math.log(Math.max(column[id], 1e-300));
  let best = states.map((state) => (state.place < 2 ? emitted(probabilities[0], state) : -Infinity));
  const likeliest = (candidates) => candidates.reduce((a, b) => (best[b] > best[a] ? b : a));
  const steps = [];
  for (const column of probabilities.slice(1)) {
    const from = before.map(likeliest);
    steps.push(from);
    best = from.map((state, to) => best[state] + emitted(column, states[to]));
  }
  const path = [likeliest([...states.keys()].reverse().filter((state) => states[state].place >= 2 * word.length - 1))];
  for (const from of steps.reverse()) path.unshift(from[path[0]]);
  return word.map((_, number) => {
    const inside = (state) => states[state].place === 2 * number + 1;
    return [states[path.find(inside)].id, path.findIndex(inside), path.findLastIndex(inside) + 1];
  });
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
