// Which case to open, and for which task: asked where there is more than one answer.

import { options, otherModality, words } from './panel.js';

const byId = (id) => document.getElementById(id);

export class Chooser {
  constructor(app) {
    this.app = app;
    byId('choose-case').addEventListener('change', () => this.propose());
    byId('choose-task').addEventListener('change', () => this.warn());
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
    if (opened) return;
    const wrong = cases.length === 1 ? await this.app.open(0, null) : '';
    if (!this.app.opened) this.ask(wrong);
  }

  get number() { return Number(byId('choose-case').value); }

  ask(wrong = '') {
    const { cases, tasks, opened } = this.app;
    const pairs = cases.map(({ name, kept }, n) => [String(n), `${n + 1}. ${name}${kept ? ` · ${kept}` : ''}`]);
    options(byId('choose-case'), pairs, String(opened?.case ?? 0));
    options(byId('choose-task'), [['', 'none: clicks and exemplars'], ...tasks.map((one) => [one, words(one)])], '');
    this.propose();
    byId('choose-error').textContent = wrong;
    byId('chooser').showModal();
  }

  // what the case itself says; never the task of another case
  propose() {
    const { task, note, begun } = this.app.cases[this.number];
    byId('choose-task').value = task ?? '';
    byId('choose-task').disabled = begun;
    byId('choose-note').textContent = begun ? 'It opens as it was left, its task too.' : note;
    byId('choose-error').textContent = '';
    this.warn();
  }

  warn() {
    const { misfits, modality, begun } = this.app.cases[this.number];
    const task = byId('choose-task').value;
    const wrong = !begun && misfits.includes(task);
    byId('choose-warning').textContent = wrong ? otherModality(words(task), modality) : '';
  }

  // until it is open the chooser stays as it is, with the reason if that fails
  async choose() {
    const button = byId('choose-open');
    if (button.disabled) return;
    button.disabled = true;
    button.textContent = 'Opening …';
    const wrong = await this.app.open(this.number, byId('choose-task').value);
    button.disabled = false;
    button.textContent = 'Open';
    byId('choose-error').textContent = wrong;
    if (!wrong) byId('chooser').close();
  }
}
