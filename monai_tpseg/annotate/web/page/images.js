// Cache of pictures of slices by address, in the memory of this page only, never on disk.

import { picture } from './api.js';

export class Images {
  constructor(limit = 96) {
    this.limit = limit;
    this.kept = new Map(); // address -> promise of an ImageBitmap, oldest first
    this.asking = new AbortController();
  }

  get(url) {
    const found = this.kept.get(url) ?? picture(url, this.asking.signal);
    this.kept.delete(url);
    this.kept.set(url, found);
    found.catch(() => this.kept.delete(url));
    while (this.kept.size > this.limit) this.drop(this.kept.keys().next().value);
    return found;
  }

  drop(url) {
    this.kept.get(url).then((image) => image.close(), () => undefined);
    this.kept.delete(url);
  }

  // pending requests are cancelled
  stop() {
    this.asking.abort();
    this.asking = new AbortController();
  }

  clear() {
    this.stop();
    [...this.kept.keys()].forEach((url) => this.drop(url));
  }
}
