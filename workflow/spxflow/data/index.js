"use strict";

// A click on a heading sorts the table by that column, a second one the other way round; empty cells stay last.

for (const heading of document.querySelectorAll("th[data-sort]")) {
  heading.addEventListener("keydown", (event) => event.key === "Enter" && heading.click());
  heading.addEventListener("click", () => {
    const column = heading.cellIndex;
    const sign = heading.dataset.sort === "up" ? -1 : 1;
    const body = heading.closest("table").tBodies[0];
    const key = (line) => line.cells[column].dataset.value ?? line.cells[column].textContent;
    const compare = (a, b) => {
      if (key(a) === "" || key(b) === "") return (key(a) === "") - (key(b) === "");
      const difference = Number(key(a)) - Number(key(b));
      return sign * (Number.isNaN(difference) ? key(a).localeCompare(key(b)) : difference);
    };
    body.append(...[...body.rows].sort(compare));
    for (const other of document.querySelectorAll("th[data-sort]")) {
      other.dataset.sort = "";
      other.removeAttribute("aria-sort");
    }
    heading.dataset.sort = sign > 0 ? "up" : "down";
    heading.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
  });
}
