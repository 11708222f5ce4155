// Everything that was made, newest first.

import { get } from "../api.js";
import { h, select, show, whileBusy } from "../dom.js";
import { STATES, jobCard } from "../jobs.js";
import { failed } from "../notices.js";

const PAGE = 12;

export async function libraryView(main) {
  const status = select("status", [["", "Any state"], ...Object.entries(STATES)], { "aria-label": "State" });
  const kind = select("kind", [["", "Pictures and videos"], ["image", "Pictures"], ["video", "Videos"]], { "aria-label": "Kind" });
  const grid = h("section", { class: "grid", "aria-label": "Your library" });
  const more = h("button", { class: "plain", hidden: true }, "Show more");
  show(main,
    h("div", { class: "head" }, h("h1", {}, "Library"), h("div", { class: "row" }, kind, status)),
    grid, more);
  let cursor = null;
  let turn = 0;

  async function load() {
    const mine = turn;
    const query = { limit: PAGE };
    if (status.value) query.status = status.value;
    if (kind.value) query.kind = kind.value;
    if (cursor) query.cursor = cursor;
    const page = await get("/generations", query);
    if (mine !== turn) return; // another filter was chosen meanwhile
    cursor = page.next_cursor;
    more.hidden = !cursor;
    for (const generation of page.generations) grid.append(jobCard(generation, { onGone: sayWhenEmpty }));
    sayWhenEmpty();
  }

  function sayWhenEmpty() {
    if (!grid.children.length) grid.append(h("p", { class: "quiet" }, "Nothing here yet."));
  }

  const restart = () => {
    turn++;
    cursor = null;
    grid.replaceChildren();
    load().catch(failed);
  };
  status.addEventListener("change", restart);
  kind.addEventListener("change", restart);
  more.addEventListener("click", () => whileBusy(more, "Loading …", () => load().catch(failed)));
  await load();
}
