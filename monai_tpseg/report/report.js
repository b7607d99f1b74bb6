const status_ = document.getElementById("status");
const task = document.getElementById("task");
const search = document.getElementById("search");
const items = [...document.querySelectorAll("[data-status]")];
const folded = document.querySelector("details.folded");

function filter() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  let cases = 0;
  for (const item of items) {
    const text = item.dataset.text;
    item.hidden = (status_.value && item.dataset.status !== status_.value) ||
      (task.value && item.dataset.task !== task.value) || !words.every(word => text.includes(word));
    if (!item.hidden && item.tagName === "LI") cases += 1;
  }
  // search results are never hidden in the folded list
  if (folded && (status_.value || task.value || words.length)) {
    folded.open = [...folded.querySelectorAll("li")].some(item => !item.hidden);
  }
  document.getElementById("shown").textContent = cases + " of " + document.querySelectorAll("li[data-status]").length + " cases shown";
}

function sort(header) {
  const table = header.closest("table"), body = table.tBodies[0];
  const column = [...header.parentNode.children].indexOf(header);
  const down = header.getAttribute("aria-sort") === "ascending";
  for (const other of header.parentNode.children) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", down ? "descending" : "ascending");
  const value = row => row.cells[column].dataset.value ?? row.cells[column].textContent;
  const compare = (a, b) => {
    const [x, y] = [value(a), value(b)];
    return (x !== "" && y !== "" && !isNaN(x) && !isNaN(y)) ? x - y : x.localeCompare(y);
  };
  const rows = [...body.rows].sort((a, b) => down ? compare(b, a) : compare(a, b));
  body.append(...rows);
}

for (const control of [status_, task, search]) control.addEventListener("input", filter);
document.getElementById("clear").addEventListener("click", () => {
  status_.value = task.value = search.value = "";
  filter();
});
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => sort(button.closest("th")));
}
document.addEventListener("keydown", event => {
  if (event.key === "/" && !["INPUT", "SELECT"].includes(document.activeElement.tagName)) {
    event.preventDefault();
    search.focus();
  }
});
const keys = {place: li => +li.dataset.place, dice: li => +li.dataset.dice, size: li => -li.dataset.size, case: li => li.dataset.case};
document.getElementById("order").addEventListener("input", event => {
  const key = keys[event.target.value], list = document.getElementById("cards");
  const compare = (a, b) => key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0;
  list.append(...[...list.children].sort(compare));
});

// print the folded list too
let unfolded = false;
addEventListener("beforeprint", () => {
  unfolded = Boolean(folded) && !folded.open;
  if (unfolded) folded.open = true;
});
addEventListener("afterprint", () => { if (unfolded) folded.open = false; });

document.getElementById("export").addEventListener("click", () => {
  const quoted = text => '"' + text.replaceAll('"', '""') + '"';
  const rows = [...document.querySelectorAll("select[data-looked]")].filter(one => one.value)
    .map(one => quoted(one.dataset.looked) + "," + one.value);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(["case,looked_at\n" + rows.map(row => row + "\n").join("")], {type: "text/csv"}));
  link.download = "looked_at.csv";
  link.click();
  URL.revokeObjectURL(link.href);
});
filter();
