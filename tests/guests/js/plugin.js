// Owns the guest fixture in JavaScript (QuickJS): the same little plugin as ../c/plugin.c and
// ../rust/src/lib.rs. For the model `digits`: comma-separated numbers in, the likeliest digit out.
// QuickJS here has no TextDecoder and no TextEncoder, so bytes are read and written one by one.

import { log } from "nuke:plugin/logging@0.1.0";

// No number needs more bytes than this; a longer token is refused and shown cut to this length.
const TOKEN_LIMIT = 40;
const NUMBER = /^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?$/;
const COUNT = /^[0-9]{1,10}$/;
const COMMA = 0x2c;

const isSpace = (byte) => byte === 0x20 || byte === 0x09 || byte === 0x0d || byte === 0x0a;

function trim(bytes, from, to) {
  while (from < to && isSpace(bytes[from])) from += 1;
  while (to > from && isSpace(bytes[to - 1])) to -= 1;
  return [from, to];
}

// `?` stands for each byte that is not printable ASCII, as none of them is part of a number.
function asciiText(bytes, from, to) {
  let text = "";
  for (let at = from; at < to; at += 1) {
    const byte = bytes[at];
    text += byte >= 0x20 && byte <= 0x7e ? String.fromCharCode(byte) : "?";
  }
  return text;
}

function asciiBytes(text) {
  const bytes = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at += 1) bytes[at] = text.charCodeAt(at);
  return bytes;
}

function fail(code, message, details = []) {
  throw { code, message, details };
}

function parseToken(body, start, end, index) {
  const [from, to] = trim(body, start, end);
  const shown = asciiText(body, from, Math.min(to, from + TOKEN_LIMIT));
  if (to - from > TOKEN_LIMIT || !NUMBER.test(shown)) {
    fail("invalid-input", `value ${index} is no number: '${shown}'`, [["index", String(index)]]);
  }
  return Number(shown);
}

function parseBody(body) {
  const values = [];
  let start = 0;
  for (let at = 0; at <= body.length; at += 1) {
    if (at < body.length && body[at] !== COMMA) continue;
    values.push(parseToken(body, start, at, values.length));
    start = at + 1;
  }
  return values;
}

function argmax(data) {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  let best = 0;
  let highest = view.getFloat32(0, true);
  for (let index = 1; index < Math.floor(data.byteLength / 4); index += 1) {
    const value = view.getFloat32(index * 4, true);
    if (value > highest) [best, highest] = [index, value];
  }
  return best;
}

export const preprocessor = {
  preprocess(input) {
    const values = parseBody(input.body);
    const floats = new Float32Array(values);
    const count = String(values.length);
    log("info", "parsed", [["values", count]]);
    const data = new Uint8Array(floats.buffer);
    const tensor = { name: "X", datatype: "fp32", shape: [1, values.length], data };
    return { tensors: [tensor], context: asciiBytes(count) };
  },
};

export const postprocessor = {
  postprocess(outputs, context) {
    const fits = (tensor) => tensor.datatype === "fp32" && tensor.data.length >= 4;
    const output = outputs.find((tensor) => tensor.name === "probabilities" && fits(tensor));
    if (!output) fail("internal", "the model has no FP32 output 'probabilities'");
    const count = asciiText(context, 0, context.length);
    if (!COUNT.test(count)) fail("internal", "the context is no count of values");
    const body = asciiBytes(`{"digit":${argmax(output.data)},"values":${count}}`);
    return { contentType: "application/json", body, parameters: [] };
  },
};
