/** A binary heap: `top` is the least by `order`. */
export class Heap<T> {
  readonly #items: T[];
  readonly #order: (a: T, b: T) => number;

  constructor(items: T[], order: (a: T, b: T) => number) {
    this.#items = items;
    this.#order = order;
    for (let index = (items.length >> 1) - 1; index >= 0; index -= 1) this.#sink(index);
  }

  get size(): number {
    return this.#items.length;
  }

  top(): T | undefined {
    return this.#items[0];
  }

  /** Puts `item` in the place of the top, and lets it sink to where it belongs. */
  replaceTop(item: T): void {
    this.#items[0] = item;
    this.#sink(0);
  }

  removeTop(): void {
    const last = this.#items.pop();
    if (last === undefined || this.#items.length === 0) return;
    this.replaceTop(last);
  }

  #sink(from: number): void {
    const items = this.#items;
    const item = items[from];
    if (item === undefined) return;
    let index = from;
    for (;;) {
      const child = this.#lesserChild(index);
      const below = items[child];
      if (below === undefined || this.#order(item, below) <= 0) break;
      items[index] = below;
      index = child;
    }
    items[index] = item;
  }

  #lesserChild(index: number): number {
    const left = 2 * index + 1;
    const a = this.#items[left];
    const b = this.#items[left + 1];
    return a !== undefined && b !== undefined && this.#order(b, a) < 0 ? left + 1 : left;
  }
}
