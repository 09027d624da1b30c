// The page: what the server listed is brought to life. Whatever was stored is put into the document as text alone.
'use strict';
(() => {
  const SVG = 'http://www.w3.org/2000/svg';
  const RANGES = [['15m', '15 min'], ['1h', '1 hour'], ['6h', '6 hours'], ['1d', '1 day'], ['7d', '7 days'], ['30d', '30 days']];
  const LINES = 50;
  const asked = new URLSearchParams(location.search);
  const shown = asked.has('source') ? asked.get('source') : null;
  const sources = new Map();
  let cluster = null;
  let skew = 0;

  const byId = (id) => document.getElementById(id);
  const now = () => Date.now() + skew;

  /** An element; children are elements or text. */
  function el(tag, attributes, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
    }
    element.append(...children.filter((child) => child !== null && child !== undefined));
    return element;
  }

  async function get(path, fields) {
    const response = await fetch(path + (fields ? '?' + new URLSearchParams(fields) : ''));
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.error || response.statusText);
    return answer;
  }

  // ---- words ------------------------------------------------------------------------------------------------------

  function span(seconds) {
    if (seconds === null || seconds === undefined) return '–';
    const s = Math.max(0, seconds);
    if (s < 1) return s.toFixed(1) + ' s';
    if (s < 90) return Math.round(s) + ' s';
    if (s < 5400) return Math.round(s / 60) + ' min';
    if (s < 129600) return Math.round(s / 3600) + ' h';
    return Math.round(s / 86400) + ' d';
  }

  function bytes(count) {
    if (count === null || count === undefined) return '–';
    const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];
    let value = count;
    let unit = 0;
    while (value >= 1000 && unit < units.length - 1) {
      value /= 1000;
      unit += 1;
    }
    return (unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)) + ' ' + units[unit];
  }

  function number(value) {
    if (typeof value !== 'number') return value === null || value === undefined ? '–' : String(value);
    return String(Math.abs(value) >= 1e6 || value === 0 ? value : Number(value.toPrecision(7)));
  }

  const clock = (ms) => new Date(ms).toLocaleString();
  const since = (time) => span((now() - Date.parse(time)) / 1000) + ' ago';
  const called = (name) => (name ? name : '(no name)');
  const first = (source) => (source.fields || []).find((field) => typeof field.value === 'number') || (source.fields || [])[0];

  function said(source) {
    const field = first(source);
    if (!field) return source.text || '–';
    return number(field.value) + (field.unit ? ' ' + field.unit : '');
  }

  /** A source that speaks at its own period is silent after three of them. */
  function isSilent(source) {
    if (!source.period_s || !source.last_ms) return Boolean(source.silent);
    return (now() - source.last_ms) / 1000 > Math.max(3 * source.period_s, 1.5);
  }

  // ---- the small curve --------------------------------------------------------------------------------------------

  function spark(curve) {
    const svg = document.createElementNS(SVG, 'svg');
    svg.setAttribute('viewBox', '0 0 120 28');
    svg.setAttribute('class', 'spark');
    svg.setAttribute('preserveAspectRatio', 'none');
    svg.setAttribute('aria-hidden', 'true');
    const means = curve ? curve.means : [];
    const known = means.filter((mean) => mean !== null);
    if (known.length === 0) return svg;
    const low = Math.min(...known);
    const high = Math.max(...known);
    const x = (k) => (k * 118) / Math.max(1, means.length - 1) + 1;
    const y = (mean) => (high > low ? 26 - ((mean - low) / (high - low)) * 24 : 14);
    let line = '';
    let open = false;
    means.forEach((mean, k) => {
      const isAlone = !open && (k + 1 >= means.length || means[k + 1] === null);
      if (mean !== null) line += (open ? 'L' : 'M') + x(k).toFixed(1) + ' ' + y(mean).toFixed(1) + (isAlone ? 'h1' : '');
      open = mean !== null;
    });
    const path = document.createElementNS(SVG, 'path');
    path.setAttribute('d', line);
    svg.append(path);
    return svg;
  }

  function addToSpark(source, ms, value) {
    const curve = source.spark || (source.spark = { from_ms: ms - (ms % 60000) - 59 * 60000, every_s: 60, means: Array(60).fill(null) });
    while (ms >= curve.from_ms + 3600000) {
      curve.means.shift();
      curve.means.push(null);
      curve.from_ms += 60000;
    }
    const place = Math.floor((ms - curve.from_ms) / 60000);
    if (place >= 0 && place < curve.means.length) {
      const mean = curve.means[place];
      curve.means[place] = mean === null ? value : mean + (value - mean) / 4;
    }
  }

  // ---- all sources ------------------------------------------------------------------------------------------------

  const rows = new Map();
  const dirty = new Set();

  function order(one, other) {
    const calm = (source) => (isSilent(source) || source.out ? 0 : 1);
    return calm(one) - calm(other) || called(one.name).localeCompare(called(other.name));
  }

  function row(source) {
    const silent = isSilent(source);
    const state = [silent && 'silent', source.out && 'out'].filter(Boolean).join(' ') || 'well';
    const words = [];
    if (silent) words.push('silent');
    if (source.out) words.push('out of range');
    const age = source.last_ms ? span((now() - source.last_ms) / 1000) + ' ago' : 'never heard';
    const field = first(source);
    return el('a', { class: 'source ' + state, href: '/?source=' + encodeURIComponent(source.name || '') },
      el('span', { class: 'name' }, called(source.name)),
      el('span', { class: 'value' }, said(source)),
      el('span', { class: 'about' }, (field && field.name !== 'value' ? field.name + ' · ' : '') + age +
        (source.period_s ? ' · every ' + span(source.period_s) : '')),
      el('span', { class: 'mark' }, words.join(', ')),
      spark(source.spark));
  }

  function drawSources() {
    const list = byId('sources');
    const sorted = [...sources.values()].sort(order);
    const wanted = (byId('filter') ? byId('filter').value : '').toLowerCase();
    rows.clear();
    const drawn = sorted.filter((source) => called(source.name).toLowerCase().includes(wanted)).map((source) => {
      const line = row(source);
      rows.set(source.name || '', { line, state: line.className });
      return line;
    });
    if (drawn.length === 0) drawn.push(el('p', { class: 'hint' }, sources.size ? 'No source has such a name.' : 'Nothing was heard yet.'));
    list.replaceChildren(...drawn);
    dirty.clear();
  }

  /** Only what changed is drawn anew; all of it where somebody's place in the order changed. */
  function redraw() {
    for (const name of dirty) {
      const known = rows.get(name);
      const source = sources.get(name);
      if (!known || !source) return drawSources();
      const line = row(source);
      if (line.className !== known.state) return drawSources();
      known.line.replaceWith(line);
      rows.set(name, { line, state: known.state });
    }
    dirty.clear();
  }

  async function loadSources() {
    const answer = await get('/api/v1/sources');
    skew = answer.now_ms - Date.now();
    sources.clear();
    for (const source of answer.sources) sources.set(source.name || '', source);
    byId('missing').textContent = answer.away ? answer.away :
      answer.missing.length ? 'Not all is known of the sources: ' + answer.missing.join(', ') + ' did not answer.' : '';
    return answer.live;
  }

  function hear(event) {
    const message = JSON.parse(event.data);
    const name = message.source || '';
    const source = sources.get(name) || { name: message.source };
    const ms = Date.parse(message.time);
    if (!source.last_ms || ms >= source.last_ms) {
      source.last_ms = ms;
      source.text = message.text;
      source.fields = message.fields;
      source.out = message.fields.some((field) => field.out);
    }
    const field = message.fields.find((one) => typeof one.value === 'number');
    if (field) addToSpark(source, ms, field.value);
    sources.set(name, source);
    dirty.add(name);
    if (shown !== null && name === shown) one.hear(message);
  }

  // ---- one source -------------------------------------------------------------------------------------------------

  const one = {
    chart: null,
    buckets: [],
    due: 0,

    address(more) {
      const fields = new URLSearchParams({ source: shown, since: asked.get('since') || '1h' });
      for (const name of ['field', 'until']) if (asked.get(name)) fields.set(name, asked.get(name));
      for (const [name, value] of Object.entries(more || {})) fields.set(name, value);
      return '/?' + fields;
    },

    question() {
      const fields = { source: shown, since: asked.get('since') || '1h' };
      for (const name of ['field', 'until']) if (asked.get(name)) fields[name] = asked.get(name);
      return fields;
    },

    start() {
      document.title = called(shown) + ' · acopio';
      byId('list').hidden = true;
      byId('one').hidden = false;
      byId('one-name').textContent = called(shown);
      byId('ranges').replaceChildren(...RANGES.map(([since, words]) =>
        el('a', { href: this.address({ since }), 'aria-current': (asked.get('since') || '1h') === since ? 'true' : null }, words)));
    },

    downloads(fields, every) {
      const question = { source: shown, since: asked.get('since') || '1h', download: '1' };
      if (asked.get('until')) question.until = asked.get('until');
      const link = (words, more) => el('a', { href: '/api/v1/messages?' + new URLSearchParams({ ...question, ...more }) }, words);
      const columns = fields.length ? { fields: fields.join(',') } : {};
      byId('downloads').replaceChildren('Download: ',
        link('CSV', { format: 'csv', ...columns }), ' ',
        link('Excel', { format: 'excel', ...columns }), ' ',
        link('JSON', { format: 'ndjson', ...columns }), ' ',
        ...(document.body.dataset.parquet ? [link('Parquet', { format: 'parquet', ...columns }), ' '] : []),
        link('CSV of messages', { format: 'csv' }), ' ',
        ...(fields.length ? [link('CSV of medians', { format: 'csv', every: every + 's', ...columns })] : []));
    },

    async load() {
      this.due = now() + 5000;
      const [series, lines, who] = await Promise.all([
        get('/api/v1/series', this.question()),
        get('/api/v1/messages', { source: shown, last: LINES, ...(asked.get('until') ? { until: asked.get('until') } : {}) }),
        get('/api/v1/connections', { source: shown }),
      ]);
      this.due = now() + Math.max(2, series.every_s) * 1000;
      this.draw(series);
      byId('lines').replaceChildren(...lines.messages.reverse().map((message) => this.line(message)));
      this.tell(series);
      byId('connections').replaceChildren(...who.connections.map((one) => el('li', null,
        'sent from ' + one.address + ', ' + (one.dialect || 'no message yet') + (one.tls ? ' over TLS' : '') + (one.name && one.name !== shown ? ' as ' + one.name : '') +
        ', to head ' + one.head + ' since ' + clock(Date.parse(one.since)) + ': ' + one.messages + (one.messages === 1 ? ' message' : ' messages') +
        ', heard ' + span(one.heard_s) + ' ago')));
      this.downloads(series.fields, series.every_s);
    },

    tell(series) {
      const source = sources.get(shown) || {};
      const facts = [];
      if (source.last_ms) facts.push('last heard ' + clock(source.last_ms));
      if (source.period_s) facts.push('every ' + span(source.period_s));
      if (source.records) facts.push(source.records + ' records');
      if (source.connected) facts.push('connected' + (source.address ? ' from ' + source.address : ''));
      byId('facts').textContent = facts.join(' · ');
      const missing = [];
      if (series.missing.length) missing.push('What only ' + series.missing.join(', ') + ' keeps is missing here: it is away.');
      if (series.hidden) missing.push(series.hidden + ' messages are left out, as notes say.');
      if (series.elsewhere) missing.push(series.elsewhere + ' values have a device time outside of this range.');
      const total = (name) => series.buckets.reduce((sum, bucket) => sum + (bucket[name] || 0), 0);
      if (total('corrected')) missing.push(total('corrected') + ' values are corrected, as notes say: ◆.');
      if (total('out')) missing.push(total('out') + ' values are out of range: ●.');
      byId('lacks').replaceChildren(...missing.map((words) => el('li', null, words)));
      byId('fields').replaceChildren(...(series.fields.length > 1 ? series.fields.map((field) =>
        el('a', { href: this.address({ field }), 'aria-current': field === series.field ? 'true' : null }, field)) : []));
    },

    draw(series) {
      this.buckets = series.buckets;
      const name = (series.field || 'value') + (series.unit ? ' (' + series.unit + ')' : '');
      const rows = series.buckets.map((bucket) => [new Date(bucket.t),
        bucket.n ? [bucket.min, bucket.median, bucket.max] : [null, null, null]]);
      const nothing = !series.buckets.some((bucket) => bucket.n);
      byId('nothing').hidden = !nothing;
      byId('chart').hidden = nothing;
      if (nothing) return;
      if (this.chart) {
        this.chart.updateOptions({ file: rows });
        return;
      }
      // Its legend measures with an inline style, which the page does not allow; what it would say stands under the curve.
      Dygraph.PLUGINS = Dygraph.PLUGINS.filter((plugin) => plugin !== Dygraph.Plugins.Legend);
      const style = getComputedStyle(document.body);
      this.chart = new Dygraph(byId('chart'), rows, {
        customBars: true,
        labels: ['time', name],
        colors: [style.getPropertyValue('--line').trim()],
        axisLineColor: style.getPropertyValue('--faint').trim(),
        gridLineColor: style.getPropertyValue('--faint').trim(),
        fillAlpha: 0.2,
        strokeWidth: 2,
        drawPoints: true,
        pointSize: 3,
        axes: { y: { axisLabelWidth: 56 } },
        drawPointCallback: (_chart, _name, canvas, x, y, color, size, place) => this.point(canvas, x, y, color, size, place),
        highlightCallback: (_event, _x, points) => this.under(points.length ? points[0].idx : -1),
        unhighlightCallback: () => this.under(-1),
      });
    },

    /** What is special about a bucket is marked; of the others those that stand alone are seen. */
    point(canvas, x, y, color, size, place) {
      const bucket = this.buckets[place];
      if (!bucket || !bucket.n) return;
      const has = (k) => this.buckets[k] && this.buckets[k].n > 0;
      canvas.beginPath();
      if (bucket.corrected) {
        canvas.fillStyle = '#b8860b';
        canvas.moveTo(x, y - 6);
        canvas.lineTo(x + 6, y);
        canvas.lineTo(x, y + 6);
        canvas.lineTo(x - 6, y);
      } else if (bucket.out) {
        canvas.fillStyle = '#c0392b';
        canvas.arc(x, y, 4, 0, 2 * Math.PI);
      } else if (!has(place - 1) && !has(place + 1)) {
        canvas.fillStyle = color;
        canvas.arc(x, y, size - 1, 0, 2 * Math.PI);
      } else {
        return;
      }
      canvas.fill();
    },

    under(place) {
      const bucket = this.buckets[place];
      byId('under').textContent = !bucket || !bucket.n ? '' : clock(bucket.t) + ' · median ' + number(bucket.median) +
        ' · from ' + number(bucket.min) + ' to ' + number(bucket.max) + ' · ' + bucket.n + (bucket.n === 1 ? ' value' : ' values');
    },

    line(message) {
      const text = message.text === undefined || message.text === null ? '(no text) ' + (message.base64 || '') : message.text;
      const cut = text.length > 400;
      return el('tr', null,
        el('td', { class: 'time' }, clock(Date.parse(message.time))),
        el('td', { class: 'text' }, cut ? text.slice(0, 400) + '…' : text));
    },

    hear(message) {
      if (asked.get('until')) return;
      const lines = byId('lines');
      lines.prepend(this.line(message));
      while (lines.children.length > LINES) lines.lastElementChild.remove();
      if (now() >= this.due) this.load().catch(fail);
    },
  };

  // ---- the cluster ------------------------------------------------------------------------------------------------

  function drawCluster(status) {
    cluster = status;
    const alarms = status.alarms || [];
    byId('alarms').replaceChildren(...alarms.map((words) => el('li', null, words)));
    byId('heads').replaceChildren(...status.heads.map((head) => el('tr', { class: head.up ? null : 'bad' },
      el('td', null, head.address),
      el('td', null, head.up ? 'up ' + span(head.uptime_s) : 'away'),
      el('td', { class: 'n' }, head.up ? head.clients + ' of ' + head.clients_max : '–'),
      el('td', { class: 'n' }, head.up ? number(Number(head.rate_10s.toFixed(1))) : '–'),
      el('td', { class: 'n' }, head.up ? String(head.refused_messages) : '–'))));
    const report = status.cluster;
    if (!report) return;
    const nodes = [...report.nodes].sort((a, b) => a.name.localeCompare(b.name));
    const away = report.members_away.map((node) => el('tr', { class: 'bad' },
      el('td', null, node.name), el('td', null, 'no disponible'), el('td', null, since(node.since)),
      ...Array.from({ length: 4 }, () => el('td', { class: 'n' }, '–'))));
    byId('nodes').replaceChildren(...nodes.map((node) => el('tr', { class: node.state === 'disponible' ? null : 'bad' },
      el('td', null, node.name),
      el('td', null, node.state + (node.reason ? ': ' + node.reason : '')),
      el('td', null, since(node.since)),
      el('td', { class: 'n' }, String(node.records)),
      el('td', { class: 'n' }, bytes(node.bytes)),
      el('td', { class: 'n' }, bytes((status.written_per_day || {})[node.name])),
      el('td', { class: 'n' }, bytes(node.free)))), ...away);
    byId('copies').textContent = report.replicas + (report.replicas === 1 ? ' copy' : ' copies') + ' of each message, at least ' +
      report.copies_min + '; ' + (report.short_of_copies ? report.short_of_copies + ' records are short of copies.' : 'none is short of copies.');
  }

  // ---- what comes -------------------------------------------------------------------------------------------------

  function fail(error) {
    byId('state').textContent = String(error.message || error);
    byId('state').className = 'bad';
  }

  function listen(after) {
    const stream = new EventSource('/api/v1/live?' + new URLSearchParams({ status: '1', after, ...(shown === null ? {} : { source: shown }) }));
    const is = (words, state) => {
      byId('state').textContent = words;
      byId('state').className = state;
    };
    stream.onopen = () => is('live', 'well');
    stream.onerror = () => is('the connection broke; trying again', 'bad');
    stream.addEventListener('message', hear);
    stream.addEventListener('status', (event) => drawCluster(JSON.parse(event.data)));
    // Where much is left out this comes each second, and to all who look at once.
    let reload = null;
    stream.addEventListener('anew', () => {
      reload ??= setTimeout(() => { reload = null; start(false).catch(fail); }, 5000 * Math.random());
    });
  }

  async function start(isFirst) {
    const after = await loadSources();
    if (shown === null) drawSources();
    else await one.load();
    if (isFirst) listen(after);
  }

  if (shown !== null) one.start();
  else if (byId('filter')) {
    byId('filter').hidden = false;
    byId('filter').addEventListener('input', drawSources);
  }
  start(true).catch(fail);
  setInterval(() => { if (shown === null && dirty.size) redraw(); }, 250);
  setInterval(() => { if (shown === null) drawSources(); }, 2000);
  setInterval(() => { loadSources().catch(fail); }, 60000);
})();
