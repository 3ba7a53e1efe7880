// Figures are drawn when they come into view, and all of them before printing.
const draw = element => {
  if (element.dataset.drawn) return;
  element.dataset.drawn = 1;
  const figure = JSON.parse(element.nextElementSibling.textContent);
  Plotly.newPlot(element, figure.data, figure.layout, {responsive: true, displaylogo: false});
};
const figures = [...document.querySelectorAll('.figure')];
const seen = new IntersectionObserver(entries => entries.forEach(entry => {
  if (!entry.isIntersecting) return;
  draw(entry.target);
  seen.unobserve(entry.target);
}), {rootMargin: '900px'});
figures.forEach(element => seen.observe(element));
addEventListener('beforeprint', () => figures.forEach(draw));

const make = (tag, properties, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};
const nameOf = row => row.cells[0].firstChild?.textContent.trim() ?? '';
const generatorOf = row => nameOf(row).split(/ \+ |, /)[0];
// the number a cell shows, its deviation, and the value that the paper publishes; empty where there is none
const partsOf = cell => {
  const small = cell.querySelector('small');
  const paper = small?.classList.contains('paper');
  const [value, deviation] = (cell.firstChild?.textContent ?? '').replace('≈ ', '').split(' ±');
  return [value, paper || !small ? deviation : small.textContent.replace('±', ''),
    paper ? small.textContent.replace('paper ', '') : '']
    .map(text => (text ?? '').trim())
    .map(text => text === '–' ? '' : /^-?\d{1,3}(,\d{3})+$/.test(text) ? text.replaceAll(',', '') : text);
};

// A click on a head sorts: ascending, descending, as it was. Missing values come last.
const sortTable = (table, order, index, direction) => {
  const key = row => index ? partsOf(row.cells[index])[0] : nameOf(row);
  const known = order.filter(row => key(row) !== '');
  const numeric = known.every(row => Number.isFinite(parseFloat(key(row))));
  const compare = (a, b) => numeric ? parseFloat(key(a)) - parseFloat(key(b)) : key(a).localeCompare(key(b));
  const sorted = [...known.sort((a, b) => direction * compare(a, b)), ...order.filter(row => key(row) === '')];
  table.tBodies[0].append(...(direction ? sorted : order));
  [...table.tHead.rows[0].cells].forEach((head, i) => {
    if (i === index && direction) head.ariaSort = direction > 0 ? 'ascending' : 'descending';
    else head.removeAttribute('aria-sort');
  });
};

// The shown rows as CSV. Text that a spreadsheet would take for a formula begins with an apostrophe.
const quoted = text => {
  const safe = /^[=+@\t-]/.test(text) && !Number.isFinite(Number(text)) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
};
const csvOf = table => {
  const shown = [...table.tBodies[0].rows, ...(table.tFoot?.rows ?? [])].filter(row => !row.hidden);
  const values = shown.map(row => [...row.cells].map((cell, i) => i ? partsOf(cell) : [nameOf(row), '', '']));
  const columns = [...table.tHead.rows[0].cells]
    .flatMap((head, i) => ['', ' s.d.', ' in the paper'].map((what, part) => [head.textContent.trim() + what, i, part]))
    .filter(([, i, part]) => !part || values.some(row => row[i][part]));
  return [columns.map(([head]) => head), ...values.map(row => columns.map(([, i, part]) => row[i][part]))]
    .map(line => line.map(quoted).join(',') + '\n').join('');
};
const download = (text, name) => {
  const link = make('a', {href: URL.createObjectURL(new Blob([text], {type: 'text/csv'})), download: name});
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
};

document.querySelectorAll('.scroll').forEach(scroll => {
  const table = scroll.querySelector('table');
  const order = [...table.tBodies[0].rows];
  [...table.tHead.rows[0].cells].forEach((head, i) => {
    const button = make('button', {type: 'button', className: 'sort', textContent: head.textContent});
    if (head.title) button.dataset.hint = button.ariaDescription = head.title;
    head.removeAttribute('title');
    head.replaceChildren(button);
    button.onclick = () => {
      const direction = {ascending: -1, descending: 0}[head.ariaSort] ?? 1;
      sortTable(table, order, i, direction);
    };
  });
  const name = scroll.dataset.name.toLowerCase().replace(/[^a-z0-9]+/g, '-').replace(/-$/, '') + '.csv';
  const button = make('button', {type: 'button', textContent: 'Download the shown rows (CSV)'});
  button.onclick = () => download(csvOf(table), name);
  scroll.after(make('p', {className: 'tools'}, button));
});

// Hovering over a head, or focus by keyboard, shows the meaning of its column.
const tip = make('div', {className: 'tip', role: 'tooltip', hidden: true});
document.body.append(tip);
const explain = element => {
  const hinted = element?.closest?.('[data-hint]');
  tip.hidden = !hinted;
  if (!hinted) return;
  tip.textContent = hinted.dataset.hint;
  const {left, bottom} = hinted.getBoundingClientRect();
  tip.style.left = `${Math.max(8, Math.min(left, document.body.clientWidth - tip.offsetWidth - 8))}px`;
  tip.style.top = `${Math.min(bottom + 6, innerHeight - tip.offsetHeight - 8)}px`;
};
for (const kind of ['pointerover', 'focusin']) document.addEventListener(kind, event => explain(event.target));
addEventListener('scroll', () => explain(document.querySelector('[data-hint]:focus-visible')), true);
addEventListener('keydown', event => event.key === 'Escape' && explain(null));

// Which space and reference, and which generators, are shown.
document.querySelectorAll('.controls').forEach(controls => {
  const views = [...document.querySelectorAll('.view')];
  if (views.length > 1) {
    const select = make('select', {autocomplete: 'off'}, ...views.map((view, i) =>
      make('option', {value: i, textContent: view.querySelector('h3').textContent})));
    const show = () => views.forEach((view, i) => { view.hidden = i !== select.selectedIndex; });
    select.onchange = show;
    show();
    controls.append(make('label', {className: 'choice'}, 'Compare ', select));
  }
  const rows = [...document.querySelectorAll('.rows tbody tr')];
  const boxes = [...new Set(rows.map(generatorOf))].map(name =>
    make('input', {type: 'checkbox', name, checked: true, autocomplete: 'off'}));
  const summary = make('summary', {});
  const update = () => {
    const chosen = new Set(boxes.filter(box => box.checked).map(box => box.name));
    rows.forEach(row => { row.hidden = !chosen.has(generatorOf(row)); });
    summary.textContent = `Rows shown: ${chosen.size} of ${boxes.length}`;
  };
  const all = checked => make('button', {type: 'button', textContent: checked ? 'all' : 'none', onclick: () => {
    boxes.forEach(box => { box.checked = checked; });
    update();
  }});
  const choices = make('fieldset', {onchange: update}, ...boxes.map(box => make('label', {}, box, ` ${box.name}`)));
  choices.append(all(true), all(false));
  controls.append(make('details', {}, summary, choices));
  update();
});
