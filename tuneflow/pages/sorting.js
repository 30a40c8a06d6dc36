// Tables whose heads sort them: numbers by value, other texts by letters, what is missing always last.
function value(row, column) {
  const cell = row.cells[column];
  const text = cell.dataset.v ?? cell.textContent;
  if (text === "" || text === "-") return null;
  const number = Number.parseFloat(text.replaceAll(",", ""));
  return Number.isNaN(number) ? text : number;
}

function order(column, sign) {
  return (first, second) => {
    const [a, b] = [value(first, column), value(second, column)];
    if (a === null || b === null) return (a === null) - (b === null);
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    return sign * (typeof a === "number" ? a - b : a.localeCompare(b));
  };
}

function sort(head, column) {
  const down = head.getAttribute("aria-sort") === "ascending";
  all("th[aria-sort]", head.parentElement).forEach((other) => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const table = head.closest("table");
  const [body] = table.tBodies;
  const rest = table.querySelector("template")?.content ?? new DocumentFragment();
  const most = body.rows.length;
  const sorted = [...body.rows, ...rest.children].sort(order(column, down ? -1 : 1));
  body.append(...sorted.slice(0, most));
  rest.append(...sorted.slice(most));
}

for (const table of all("table.sortable")) {
  all("thead th", table).forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sort(head, column));
    head.append(button);
  });
}
