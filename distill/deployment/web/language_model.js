// Lists of words by which readings that look alike are told apart, number for number as students/language_model.py.

const WEIGHT = 0.3; // exponent of a word's frequency
const RAREST = 1e-9; // frequency of what stands in no list
const CODE_SHARE = 1e-3; // frequency of a code that isn't listed over that of its shape, were characters drawn evenly
const EVENLY = 10; // codes that count as drawn evenly beside the listed ones of a shape
const RUNS = /[\p{L}\p{N}]+/gu; // letters and digits without anything between them

/** The prior that follows from lists of words. */
export class LanguageModel {
  #lists;

  /** @param {string[]} texts lists: a word a line, reduced as by `fold`, with its count behind a tab; # is a comment */
  constructor(texts) {
    this.#lists = texts.map(parse);
  }

  /**
   * Weigh a text by how common it is. With something between its letters it counts as one word or as several,
   * whichever is more common.
   *
   * @param {string} text
   * @returns {number} its frequency to the power of `WEIGHT`
   */
  prior(text) {
    const runs = (text.match(RUNS) ?? []).map(fold);
    const whole = this.#frequency(runs.join(""));
    const several = runs.reduce((product, run) => product * this.#frequency(run), 1);
    return Math.max(whole, runs.length > 1 ? several : 0) ** WEIGHT;
  }

  #frequency(word) {
    return Math.max(RAREST, ...this.#lists.map((list) => {
      const places = isCode(word) ? list.shapes.get(shape(word)) : undefined;
      return ((list.counts.get(word) ?? 0) + (places ? countAlike(word, places) : 0)) / list.total;
    }));
  }
}

/** Reduce a text to its letters and digits, without case and accents. */
export function fold(text) {
  return (foldCase(foldCase(text).normalize("NFKD")).match(RUNS) ?? []).join("");
}

function foldCase(text) {
  // Upper case first makes ss of ß; the dotless ı stays one.
  return text.replace(/[^ı]/gu, (char) => char.toUpperCase().toLowerCase());
}

function parse(text) {
  const lines = text.split("\n").filter((line) => line && !line.startsWith("#"));
  const counts = new Map(lines.map((line) => line.split("\t")).map(([word, count]) => [word, Number(count)]));
  const shapes = new Map();
  let total = 0;
  for (const [word, count] of counts) {
    total += count;
    if (!isCode(word)) continue;
    const key = shape(word);
    const places = shapes.get(key) ?? [...word].map(() => new Map());
    [...word].forEach((char, index) => places[index].set(char, (places[index].get(char) ?? 0) + count));
    shapes.set(key, places);
  }
  return { counts, shapes, total };
}

function isCode(word) {
  return !/^\p{L}+$/u.test(word);
}

/** Put one letter for all letters, and one digit for all digits. */
function shape(word) {
  return word.replace(/\p{L}|(.)/gsu, (_, other) => (other === undefined ? "a" : "0"));
}

/** Estimate how often a code occurs from the characters that listed ones of its shape have in the same places. */
function countAlike(code, places) {
  const listed = [...places[0].values()].reduce((sum, count) => sum + count, 0);
  const likelier = [...code].reduce((product, char, index) => {
    const choices = isCode(char) ? 10 : 26;
    return product * ((places[index].get(char) ?? 0) * choices + EVENLY) / (listed + EVENLY);
  }, 1);
  return listed * Math.min(CODE_SHARE * likelier, 1);
}
