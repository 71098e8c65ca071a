// The dialog that asks for an API key, if the server needs one.

import * as api from "./api.js";
import { about, withdraw } from "./complaints.js";
import { byId } from "./dom.js";

let asking = null;

// Resolves when the dialog is closed, to whether a key was entered. Two refused answers share a dialog.
export function given() {
  asking ??= open().finally(() => (asking = null));
  return asking;
}

function open() {
  const dialog = byId("key");
  const field = byId("key-value");
  field.value = dialog.returnValue = "";
  withdraw(field);
  dialog.showModal();
  if (api.hasKey()) about(field, "The server refused this key.");
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      const entered = dialog.returnValue === "use";
      if (entered) api.keep(field.value.trim());
      field.value = "";
      resolve(entered);
    }, { once: true });
  });
}
