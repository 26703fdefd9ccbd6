'use strict'
const data = JSON.parse(document.getElementById('data').textContent)
const key = 'slicer_fastai review '+data.key
const list = document.getElementById('places')
const none = ''
let marks = {}, past = [], now = 0, shown = []

try { marks = JSON.parse(localStorage.getItem(key)) || {} } catch (e) { }
function remember() {
  try { localStorage.setItem(key, JSON.stringify(marks)) }
  catch (e) { document.getElementById('count').textContent = 'This browser keeps nothing: save before you close the page.' }
}

function element(tag, className, text) {
  const res = document.createElement(tag)
  if (className) res.className = className
  if (text !== undefined) res.textContent = text
  return res
}

function card(place) {
  const res = element('section', 'place'), left = element('div'), right = element('div'), picture = element('div', 'picture')
  const image = element('img'), box = element('div', 'event'), sound = element('audio')
  image.src = place.picture; image.alt = 'spectrogram'; image.loading = 'lazy'
  box.style.left = 100*place.from+'%'; box.style.width = 100*(place.to-place.from)+'%'
  sound.controls = true; sound.preload = 'none'; sound.src = place.sound
  picture.append(image, box)
  left.append(picture, sound)
  const buttons = element('div', 'buttons')
  for (const label of [...data.labels, none]) {
    const button = element('button', '', label === none ? 'none of these' : label)
    button.dataset.label = label
    button.addEventListener('click', () => mark(place, label))
    buttons.append(button)
  }
  right.append(element('div', 'name', place.name), element('div', 'time', place.time+(place.score === null ? '' : ' · score '+place.score.toFixed(2))),
               element('div', 'answer'), buttons)
  res.append(left, right)
  res.addEventListener('click', () => select(shown.indexOf(place), false))
  res.place = place
  place.card = res
  return res
}

function refresh(place) {
  const marked = place.id in marks, label = marked ? marks[place.id] : place.label
  place.card.classList.toggle('checked', marked)
  place.card.querySelector('.answer').textContent = (label === none ? 'none of these' : label)+(marked ? ' ✓' : '?')
  for (const b of place.card.querySelectorAll('button')) b.setAttribute('aria-pressed', marked && b.dataset.label === label)
}

function count() {
  document.getElementById('count').textContent = Object.keys(marks).length+' of '+data.places.length+' checked'
}

function mark(place, label) {
  past.push([place.id, place.id in marks ? marks[place.id] : null])
  marks[place.id] = label
  count(); refresh(place); remember()
}

function undo() {
  const last = past.pop()
  if (!last) return
  if (last[1] === null) delete marks[last[0]]
  else marks[last[0]] = last[1]
  const place = data.places.find(o => o.id === last[0])
  count(); refresh(place); remember()
  if (shown.includes(place)) select(shown.indexOf(place), true)
}

function select(i, scroll) {
  if (!shown.length) return
  now = Math.max(0, Math.min(i, shown.length-1))
  for (const o of list.children) o.classList.toggle('now', o.place === shown[now])
  if (scroll) shown[now].card.scrollIntoView({block: 'center'})
}

function play() {
  if (!shown.length) return
  const sound = shown[now].card.querySelector('audio')
  if (!sound.paused) return sound.pause()
  for (const o of document.querySelectorAll('audio')) o.pause()
  sound.currentTime = 0
  sound.play().catch(() => { })
}

function arrange() {
  const order = document.getElementById('order').value, which = document.getElementById('show').value
  shown = data.places.filter(o => which === 'all' || (o.id in marks) === (which === 'checked'))
  shown.sort((a, b) => a.orders[order]-b.orders[order])
  list.replaceChildren(...shown.map(o => o.card || card(o)))
  data.places.filter(o => o.card).forEach(refresh)
  select(0, false)
}

function cell(value) {
  let text = value === null || value === undefined ? '' : String(value)
  if (/^'*[=+\-@\t\r]/.test(text) && typeof value === 'string') text = "'"+text
  return /[",\n\r]/.test(text) ? '"'+text.replaceAll('"', '""')+'"' : text
}

function csv() {
  const rows = [['id', 'file', 'start', 'end', 'label', 'score', 'checked', 'found_as']]
  for (const o of data.places) {
    const marked = o.id in marks
    rows.push([o.id, o.file, o.start, o.end, marked ? marks[o.id] : o.label, o.score, marked, o.label])
  }
  return rows.map(r => r.map(cell).join(',')).join('\n')+'\n'
}

function save() {
  const link = element('a')
  link.href = URL.createObjectURL(new Blob([csv()], {type: 'text/csv'}))
  link.download = data.csv
  link.click()
}

document.getElementById('order').addEventListener('change', arrange)
document.getElementById('show').addEventListener('change', arrange)
document.getElementById('save').addEventListener('click', save)
document.addEventListener('keydown', e => {
  if (e.ctrlKey || e.metaKey || e.altKey || e.target.tagName === 'SELECT') return
  const place = shown[now], digit = '123456789'.indexOf(e.key)
  if (e.key === ' ') play()
  else if (e.key === 'ArrowDown' || e.key === 'ArrowRight') select(now+1, true)
  else if (e.key === 'ArrowUp' || e.key === 'ArrowLeft') select(now-1, true)
  else if (e.key === 'u') undo()
  else if (place && e.key === 'Enter') { mark(place, place.label); select(now+1, true) }
  else if (place && e.key === 'n') { mark(place, none); select(now+1, true) }
  else if (place && digit >= 0 && digit < data.labels.length) { mark(place, data.labels[digit]); select(now+1, true) }
  else return
  e.preventDefault()
})
count(); arrange()
