// A click on a column's head sorts its table: numbers as numbers, again the other way round.
for (const button of document.querySelectorAll("table.sortable th button")) {
  button.addEventListener("click", () => {
    const head = button.closest("th"), body = head.closest("table").tBodies[0];
    const column = head.cellIndex, rising = head.getAttribute("aria-sort") === "descending" || head.dataset.first === "up"
      && head.getAttribute("aria-sort") !== "ascending";
    const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
    const rows = [...body.rows].sort((one, other) => {
      const a = key(one), b = key(other), difference = a !== "" && b !== "" ? a - b : NaN;
      return (Number.isNaN(difference) ? a.localeCompare(b) : difference) * (rising ? 1 : -1);
    });
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", rising ? "ascending" : "descending");
    body.append(...rows);
  });
}
