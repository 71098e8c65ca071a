// What the programs in JavaScript have in common; see shared.py.
import { createInterface } from "node:readline";

export const URL = process.env.CLIENT_URL;
export const MODEL = process.env.CLIENT_MODEL;
export const KEY = "none";
export const QUESTION = "Is Lisbon a town or a port, and is it old?";

export async function run(modes) {
  for await (const mode of createInterface(process.stdin)) {
    let report;
    try {
      report = { result: await modes[mode]() };
    } catch (error) {
      report = { error: String(error.stack) };
    }
    console.log("\nREPORT " + JSON.stringify(report));
  }
}

export async function gathered(stream) {
  const pieces = [];
  for await (const piece of stream) pieces.push(piece);
  return pieces;
}
