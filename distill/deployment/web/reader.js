// Read words in a browser. A page of your own needs this module and no other:
//
//     import { openReader } from "./reader.js";
//     const reader = await openReader();
//     const reading = await reader.read(file);

import { decodeCtc } from "./ctc.js";
import { LanguageModel } from "./language_model.js";
import { decodePicture, fittedSize, normalize, resize, turn } from "./pictures.js";

const TALL = 1.5; // height over width from which on a picture counts as tall

/**
 * Load the reader that lies beside this module.
 *
 * @returns {Promise<Reader>}
 */
export async function openReader() {
  const described = await fetchHere("reader.json").then((answer) => answer.json());
  const ort = await import(here(described.runtime.script));
  // One thread: more of them need headers that not every server sends.
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = { wasm: here(described.runtime.wasm) };
  const [model, ...lists] = await Promise.all([
    fetchHere(described.model).then((answer) => answer.arrayBuffer()),
    ...described.language_model.map((list) => fetchHere(list).then((answer) => answer.text())),
  ]);
  const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"], logSeverityLevel: 3 });
  const [height, width] = described.image_size;
  const blank = new ort.Tensor("float32", new Float32Array(3 * height * width).fill(1), [1, 3, height, width]);
  await session.run({ images: blank }); // the first picture takes longer than all others
  return new Reader(ort, session, described, lists.length ? new LanguageModel(lists) : null);
}

/** Reads pictures of words, one at a time; no picture leaves the browser. */
export class Reader {
  #ort;
  #session;
  #last = Promise.resolve();

  constructor(ort, session, described, languageModel) {
    this.#ort = ort;
    this.#session = session;
    /** The language model that it weighs words by; null reads what the picture shows. */
    this.languageModel = languageModel;
    /** What it is called. */
    this.name = described.name;
    /** Its alphabet, character by character. */
    this.characters = [...described.charset];
    /** Height and width of its input. */
    this.imageSize = described.image_size;
    /** Whether pictures keep their aspect; the width of its input is then the largest. */
    this.keepAspect = described.keep_aspect;
    /** Whether tall pictures are read turned to either side, too. */
    this.turnTall = described.turn_tall;
  }

  /**
   * Read the word in a picture.
   *
   * @param {Blob} blob an encoded picture, such as a file
   * @returns {Promise<{text: string, confidence: number, characters: import("./ctc.js").Character[], turned: number,
   *     picture: {width: number, height: number, pixels: Uint8ClampedArray}, milliseconds: number}>}
   *     what it reads, by how many degrees counter-clockwise the picture was turned for it, the picture as the reader
   *     sees it, and how long reading took once it was decoded
   * @throws {import("./pictures.js").PictureError} for what is no picture, or too large
   */
  read(blob) {
    const reading = this.#last.then(() => this.#read(blob));
    this.#last = reading.catch(() => undefined); // one at a time: a session runs no two
    return reading;
  }

  async #read(blob) {
    const decoded = await decodePicture(blob);
    const began = performance.now();
    let surest = { ...(await this.#readView(decoded)), turned: 0 };
    if (this.turnTall && decoded.height >= TALL * decoded.width) {
      for (const turned of [90, 270]) {
        const reading = await this.#readView(turn(decoded, turned));
        // A single character makes a tall picture as it stands.
        if (reading.characters.length > 1 && reading.confidence > surest.confidence) surest = { ...reading, turned };
      }
    }
    return { ...surest, milliseconds: performance.now() - began };
  }

  async #readView(decoded) {
    const size = fittedSize(decoded.width, decoded.height, this.imageSize, this.keepAspect);
    const picture = resize(decoded, size.width, size.height);
    const images = new this.#ort.Tensor("float32", normalize(picture), [1, 3, size.height, size.width]);
    const { logits } = await this.#session.run({ images });
    return { ...decodeCtc(logits.data, this.characters, this.languageModel), picture };
  }
}

function here(path) {
  return new URL(path, import.meta.url).href;
}

async function fetchHere(path) {
  const answer = await fetch(here(path));
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${answer.statusText}`);
  return answer;
}
