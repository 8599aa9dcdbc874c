// Decode pictures and bring them to a reader's input, number for number as students/pictures.py does with Pillow.
//
// Browsers smooth pictures each in their own way when they resize, so that no canvas is asked to: it only gives pixels.

/** Pixels of the largest picture that is decoded. */
export const MAX_PIXELS = 2 ** 26;

const NARROWEST = 2; // width of the narrowest picture that keeps its aspect, in heights
const COLUMN = 4; // pixels across that make a column of the reader
const TILE = 2048; // side of the pieces in which pixels are taken from a picture; canvases end at some size
const SUPPORT = 2; // reach of the bicubic filter
const PRECISION = 22; // bits behind the point of a weight

/** A picture that can't be read; its message is for people. */
export class PictureError extends Error {}

/**
 * Decode a picture to upright RGB. A picture with transparency is put on white, or on black where it is rather light.
 *
 * @param {Blob} blob an encoded picture
 * @returns {Promise<{width: number, height: number, pixels: Uint8ClampedArray}>} three bytes a pixel
 */
export async function decodePicture(blob) {
  const { width, height } = await measure(blob);
  if (width * height > MAX_PIXELS) {
    throw new PictureError(`${width} × ${height} pixels; at most ${MAX_PIXELS / 1e6 | 0} million are read, of one word`);
  }
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, {
      imageOrientation: "from-image", premultiplyAlpha: "none", colorSpaceConversion: "none",
    });
  } catch {
    throw new PictureError("damaged, or of no kind that this browser knows");
  }
  try {
    return onGround(takePixels(bitmap));
  } finally {
    bitmap.close();
  }
}

/**
 * Tell the size at which a picture is read.
 *
 * @param {number[]} imageSize height and width of the reader's input; its largest width where aspects are kept
 * @returns {{width: number, height: number}}
 */
export function fittedSize(width, height, imageSize, keepAspect) {
  const [rows, most] = imageSize;
  if (!keepAspect) return { width: most, height: rows };
  const columns = roundHalfEven((width * rows) / height / COLUMN);
  return { width: Math.min(Math.max(columns * COLUMN, NARROWEST * rows), most), height: rows };
}

/**
 * Turn an RGB picture to a side.
 *
 * @param {90 | 270} degrees counter-clockwise
 */
export function turn({ width, height, pixels }, degrees) {
  const turned = new Uint8ClampedArray(pixels.length);
  for (let row = 0; row < height; row += 1) {
    for (let column = 0; column < width; column += 1) {
      const place = degrees === 90 ? (width - 1 - column) * height + row : column * height + height - 1 - row;
      const from = 3 * (row * width + column);
      for (let channel = 0; channel < 3; channel += 1) turned[3 * place + channel] = pixels[from + channel];
    }
  }
  return { width: height, height: width, pixels: turned };
}

/**
 * Resize an RGB picture as Pillow 13 does: bicubic, antialiased, in whole numbers; across before down, unless the height
 * shrinks by more than twice as many pixels as the width.
 *
 * @param {{width: number, height: number, pixels: Uint8ClampedArray}} picture
 */
export function resize(picture, width, height) {
  const lost = picture.height - height;
  if (lost > 0 && lost > 2 * (picture.width - width)) return resizeAcross(resizeDown(picture, height), width);
  return resizeDown(resizeAcross(picture, width), height);
}

function resizeAcross({ width: before, height, pixels }, width) {
  if (width === before) return { width, height, pixels };
  const weights = filterWeights(before, width);
  return { width, height, pixels: filter(pixels, weights, height, 3, [3 * before, 3], [3 * width, 3]) };
}

function resizeDown({ width, height: before, pixels }, height) {
  if (height === before) return { width, height, pixels };
  const weights = filterWeights(before, height);
  return { width, height, pixels: filter(pixels, weights, 3 * width, 1, [1, 3 * width], [1, 3 * width]) };
}

/** Bring RGB to channels, rows, columns of 32 bits: to [0, 1], then (x - 0.5) / 0.5. */
export function normalize({ width, height, pixels }) {
  const area = width * height;
  const values = new Float32Array(3 * area);
  for (let position = 0; position < area; position += 1) {
    for (let channel = 0; channel < 3; channel += 1) {
      values[channel * area + position] = NORMALIZED[pixels[3 * position + channel]];
    }
  }
  return values;
}

/** Every step is rounded to 32 bits, as it is there. */
const NORMALIZED = Float32Array.from({ length: 256 }, (_, level) => Math.fround(Math.fround(level / 255) - 0.5) / 0.5);

/** Find width and height without decoding: a picture of a few bytes may have millions of pixels. */
async function measure(blob) {
  const image = new Image();
  const url = URL.createObjectURL(blob);
  try {
    await new Promise((resolve, reject) => {
      image.onload = resolve;
      image.onerror = () => reject(new PictureError("no picture that this browser knows"));
      image.src = url;
    });
    return { width: image.naturalWidth, height: image.naturalHeight };
  } finally {
    URL.revokeObjectURL(url);
  }
}

/** Take the pixels of a bitmap, tile by tile: four bytes each. */
function takePixels(bitmap) {
  const { width, height } = bitmap;
  const pixels = new Uint8ClampedArray(4 * width * height);
  const canvas = document.createElement("canvas");
  canvas.width = Math.min(width, TILE);
  canvas.height = Math.min(height, TILE);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.globalCompositeOperation = "copy";
  context.imageSmoothingEnabled = false;
  for (let top = 0; top < height; top += TILE) {
    for (let left = 0; left < width; left += TILE) {
      const across = Math.min(TILE, width - left);
      const down = Math.min(TILE, height - top);
      context.drawImage(bitmap, -left, -top);
      const tile = context.getImageData(0, 0, across, down).data;
      for (let row = 0; row < down; row += 1) {
        pixels.set(tile.subarray(4 * row * across, 4 * (row + 1) * across), 4 * ((top + row) * width + left));
      }
    }
  }
  return { width, height, pixels };
}

/** Turn RGBA into RGB; transparency that is equal everywhere is ignored. */
function onGround({ width, height, pixels }) {
  const area = width * height;
  let least = 255;
  let most = 0;
  let visible = 0;
  let light = 0;
  for (let place = 0; place < 4 * area; place += 4) {
    const alpha = pixels[place + 3];
    const grey = (pixels[place] * 19595 + pixels[place + 1] * 38470 + pixels[place + 2] * 7471 + 0x8000) >> 16;
    least = Math.min(least, alpha);
    most = Math.max(most, alpha);
    visible += alpha;
    light += alpha * grey;
  }
  const ground = light > 127.5 * visible ? 0 : 255;
  const colours = new Uint8ClampedArray(3 * area);
  for (let position = 0; position < area; position += 1) {
    const alpha = least === most ? 255 : pixels[4 * position + 3];
    for (let channel = 0; channel < 3; channel += 1) {
      const blended = pixels[4 * position + channel] * alpha + ground * (255 - alpha) + 128;
      colours[3 * position + channel] = ((blended >> 8) + blended) >> 8;
    }
  }
  return { width, height, pixels: colours };
}

/** Compute the weights of one direction: where each result's begin, how many there are, and the weights. */
function filterWeights(from, to) {
  const scale = from / to;
  const stretch = Math.max(scale, 1);
  const reach = SUPPORT * stretch;
  const room = Math.ceil(reach) * 2 + 1;
  const starts = new Int32Array(to);
  const counts = new Int32Array(to);
  const weights = new Int32Array(to * room);
  for (let result = 0; result < to; result += 1) {
    const centre = (result + 0.5) * scale;
    const start = Math.max(Math.trunc(centre - reach + 0.5), 0);
    const count = Math.min(Math.trunc(centre + reach + 0.5), from) - start;
    const values = Array.from({ length: count }, (_, tap) => bicubic((tap + start - centre + 0.5) * (1 / stretch)));
    const total = values.reduce((sum, value) => sum + value, 0);
    values.forEach((value, tap) => {
      const weight = (value / total) * 2 ** PRECISION;
      weights[result * room + tap] = Math.trunc(weight < 0 ? weight - 0.5 : weight + 0.5);
    });
    starts[result] = start;
    counts[result] = count;
  }
  return { to, room, starts, counts, weights };
}

/** Keys' kernel with a = -0.5. */
function bicubic(distance) {
  const x = Math.abs(distance);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0;
}

/**
 * Filter the lines of a picture: rows of pixels of three channels, or columns of single bytes.
 *
 * @param {number} lines how many there are
 * @param {number} channels bytes that are filtered side by side
 * @param {number[]} before bytes from a line to the next one, and from a pixel to the next one
 * @param {number[]} after the same in the result
 */
function filter(pixels, { to, room, starts, counts, weights }, lines, channels, before, after) {
  const filtered = new Uint8ClampedArray(lines * to * channels);
  for (let line = 0; line < lines; line += 1) {
    for (let result = 0; result < to; result += 1) {
      for (let channel = 0; channel < channels; channel += 1) {
        let place = line * before[0] + starts[result] * before[1] + channel;
        let sum = 2 ** (PRECISION - 1);
        for (let tap = 0; tap < counts[result]; tap += 1) {
          sum += pixels[place] * weights[result * room + tap];
          place += before[1];
        }
        filtered[line * after[0] + result * after[1] + channel] = sum >> PRECISION;
      }
    }
  }
  return filtered;
}

function roundHalfEven(value) {
  const below = Math.floor(value);
  if (value - below !== 0.5) return Math.round(value);
  return below % 2 === 0 ? below : below + 1;
}
