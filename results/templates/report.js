// SPDX-License-Identifier: Apache-2.0
"use strict";

// The theme: that of the system, until the reader chooses the other one.
{
  const root = document.documentElement;
  const button = document.querySelector("#theme");
  button.hidden = false;
  button.addEventListener("click", () => {
    const isDark = getComputedStyle(root).colorScheme === "dark" ||
      (root.dataset.theme === undefined && matchMedia("(prefers-color-scheme: dark)").matches);
    root.dataset.theme = isDark ? "light" : "dark";
  });
}

// Tables with the class `sortable`: buttons in the header sort, a text field filters.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const headers = [...table.tHead.rows[0].cells];
  const tools = table.closest("section").querySelector(".tools");
  const [filter, select, count] = ["input", "select", "output"].map((tag) => tools.querySelector(tag));

  const sort = (column, descending) => {
    const key = (row) => row.cells[column].dataset.key ?? "";
    const isMissing = (row) => key(row) === "";
    const numeric = rows.every((row) => !Number.isNaN(Number(key(row))));
    const order = (a, b) => numeric ? key(a) - key(b) : key(a).localeCompare(key(b), undefined, { numeric: true });
    rows.sort((a, b) => isMissing(a) - isMissing(b) || (descending ? order(b, a) : order(a, b)));
    body.append(...rows);
    body.classList.add("sorted");
    headers.forEach((header) => header.removeAttribute("aria-sort"));
    headers[column].setAttribute("aria-sort", descending ? "descending" : "ascending");
  };
  headers.forEach((header, column) => header.querySelector("button").addEventListener("click", () =>
    sort(column, header.getAttribute("aria-sort") === "ascending")));
  select.addEventListener("change", () => sort(...select.value.split(" ").map(Number)));
  filter.addEventListener("input", () => {
    const words = filter.value.toLowerCase().split(/\s+/);
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
    count.value = `${rows.filter((row) => !row.hidden).length} of ${rows.length}`;
  });
  tools.hidden = false;
}
