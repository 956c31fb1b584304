/** Applies the theme that this browser keeps. A classic script in the head: the first paint has the right colours. */
(() => {
  try {
    const { theme } = JSON.parse(localStorage.getItem("parley.page")) ?? {};
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch {
    // storage is blocked: the system's theme
  }
})();
