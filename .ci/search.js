// The search of the site, in place of Fuse: an entry (a section of a page) that holds all words, or whose page does, titles before headings before text.
window.Fuse = class {
  constructor(entries) {
    this.entries = entries.map((e) => ({ item: e, title: e.title.toLowerCase(), section: (e.section || "").toLowerCase(), text: (e.text || "").toLowerCase() }));
    this.pages = new Map();
    for (const e of this.entries) {
      const page = e.item.href.split("#")[0];
      this.pages.set(page, (this.pages.get(page) || e.title + " ") + e.section + " " + e.text + " ");
    }
  }
  weight(e, word) {
    const whole = (text) => new RegExp("(^|[^\\p{L}\\p{N}_])" + word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&") + "($|[^\\p{L}\\p{N}_])", "u").test(text);
    let w = 0;
    if (e.title.includes(word)) w += whole(e.title) ? 20 : 8;
    if (e.section.includes(word)) w += whole(e.section) ? 12 : 5;
    if (e.text.includes(word)) w += whole(e.text) ? 2 : 1;
    return w;
  }
  search(query, { limit = 20 } = {}) {
    const words = [...new Set(query.toLowerCase().split(/\s+/).filter((w) => w.length))];
    if (!words.length) return [];
    const full = [], part = new Map();
    for (const e of this.entries) {
      const weights = words.map((w) => this.weight(e, w));
      const found = weights.filter((w) => w > 0).length, score = weights.reduce((a, b) => a + b, 0);
      if (!found) continue;
      const phrase = (e.title + " " + e.section + " " + e.text).includes(query.toLowerCase()) ? 6 : 0;
      const top = e.item.section ? 0 : 1;                       // of a page and its sections the page comes first
      if (found === words.length) { full.push({ item: e.item, score: score + phrase + top }); continue; }
      const page = e.item.href.split("#")[0], whole = this.pages.get(page);
      const held = words.filter((w) => whole.includes(w)).length;
      const best = part.get(page), here = { item: e.item, held, score: score + found + top };
      if (!best || best.score < here.score) part.set(page, here);
    }
    const order = (a, b) => b.score - a.score;
    const most = full.length ? words.length : Math.max(0, ...[...part.values()].map((o) => o.held));
    const seen = new Set(full.map((o) => o.item.href.split("#")[0]));
    const rest = [...part.entries()].filter(([page, o]) => o.held === most && !seen.has(page)).map(([, o]) => o);
    return [...full.sort(order), ...rest.sort(order)].slice(0, limit);
  }
};
