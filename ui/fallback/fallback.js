// Fills the table of services; names go in as text.
const rows = document.getElementById("services");
const say = (...texts) => {
  const row = document.createElement("tr");
  for (const text of texts) row.append(Object.assign(document.createElement("td"), { textContent: text }));
  return row;
};

async function refresh() {
  try {
    const { services } = await (await fetch("/api/services")).json();
    const lines = services.map(({ name, instances }) => say(name, instances.join(", ")));
    rows.replaceChildren(...(lines.length > 0 ? lines : [say("none yet")]));
  } catch {
    rows.replaceChildren(say("no answer"));
  }
  setTimeout(refresh, 5000);
}

refresh();
