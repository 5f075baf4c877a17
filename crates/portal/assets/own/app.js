// Where the pages of patients who hold their keys begin: each page names the module that fills it.

import { fail } from "./page.js";
import { ready } from "./text.js";

const PAGES = {
  claim: () => import("./claim.js"),
  record: () => import("./record.js"),
  entry: () => import("./entry.js"),
  share: () => import("./share.js"),
  stop: () => import("./stop.js"),
  add: () => import("./add.js"),
  devices: () => import("./devices.js"),
  check: () => import("./check.js"),
};

const { own } = document.querySelector("#own").dataset;
ready
  .then(PAGES[own])
  .then(({ run }) => run())
  .catch(fail);
