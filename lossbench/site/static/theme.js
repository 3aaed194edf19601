// Before the page is drawn: the theme chosen earlier. Without one the system's preference holds.
"use strict";
try {
  const chosen = localStorage.getItem("lossbench-theme");
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
} catch { /* no storage here: the system's preference holds */ }
