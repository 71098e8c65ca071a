// Copies a text; where the browser does not allow it, shows the text to be copied by hand.

import { byId } from "./dom.js";

// Resolves to whether the text is on the clipboard.
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    byId("copy-text").value = text;
    byId("copy").showModal();
    byId("copy-text").select();
    return false;
  }
}
