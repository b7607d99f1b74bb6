// Which case to open, and for which task: asked where there is more than one answer.

import { options, words } from './panel.js';

const byId = (id) => document.getElementById(id);

export class Chooser {
  constructor(app) {
    this.app = app;
    byId('choose-case').addEventListener('change', () => this.propose());
    byId('chooser').addEventListener('cancel', (event) => { if (!app.opened) event.preventDefault(); });
    byId('chooser').querySelector('form').addEventListener('submit', (event) => {
      event.preventDefault();
      this.choose();
    });
  }

  // one case is opened at once, if it says what it is
  async begin() {
    const { cases, opened } = this.app;
    byId('cases').hidden = cases.length < 2;
    if (opened || (cases.length === 1 && (await this.app.open(0, null)))) return;
    this.ask();
  }

  ask() {
    const { cases, tasks, opened } = this.app;
    const pairs = cases.map(({ name, kept }, n) => [String(n), `${n + 1}. ${name}${kept ? ` · ${kept}` : ''}`]);
    options(byId('choose-case'), pairs, String(opened?.case ?? 0));
    options(byId('choose-task'), [['', 'none: clicks and exemplars'], ...tasks.map((one) => [one, words(one)])], '');
    this.propose();
    byId('chooser').showModal();
  }

  propose() {
    const { task, note } = this.app.cases[Number(byId('choose-case').value)];
    byId('choose-task').value = task ?? this.app.status?.task ?? '';
    byId('choose-note').textContent = note;
  }

  async choose() {
    byId('chooser').close();
    const done = await this.app.open(Number(byId('choose-case').value), byId('choose-task').value);
    if (!done) this.ask();
  }
}
