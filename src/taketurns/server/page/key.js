// The dialog that asks for an API key, where the server wants one.

import * as api from "./api.js";
import { about, withdraw } from "./complaints.js";
import { byId } from "./dom.js";

let asking = null;

// Whether a key was given, once the dialog is closed. Two answers that are refused ask once.
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
  if (api.hasKey()) about(field, "The server does not know the key that it was given.");
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      const entered = dialog.returnValue === "use";
      if (entered) api.keep(field.value.trim());
      field.value = "";
      resolve(entered);
    }, { once: true });
  });
}
