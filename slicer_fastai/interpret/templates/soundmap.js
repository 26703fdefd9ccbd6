for (const map of document.querySelectorAll('.soundmap:not([data-on])')) {
  map.dataset.on = 1
  const svg = map.querySelector('svg')
  const dots = [...map.querySelectorAll('circle')]
  const buttons = [...map.querySelectorAll('button')]
  const sound = new Audio()

  const play = dot => {
    sound.src = dot.dataset.sound
    sound.play()
    map.querySelector('.now').textContent = dot.textContent
    dots.forEach(o => o.setAttribute('stroke', o === dot ? '#000' : '#fff'))
  }

  const distance = (dot, event) => {
    const box = dot.getBoundingClientRect()
    return Math.hypot(box.x + box.width/2 - event.clientX, box.y + box.height/2 - event.clientY)
  }

  svg.addEventListener('click', event =>
    play(dots.reduce((a, b) => distance(a, event) <= distance(b, event) ? a : b)))

  svg.addEventListener('keydown', event => {
    if (event.key === 'Enter' && dots.includes(event.target)) play(event.target)
  })

  // a button dims the points of all other labels; a second click shows all again
  buttons.forEach(button => button.addEventListener('click', () => {
    const on = button.dataset.on !== '1'
    buttons.forEach(o => { o.dataset.on = on && o === button ? '1' : '' })
    dots.forEach(dot => { dot.style.opacity = !on || dot.dataset.label === button.dataset.label ? 1 : .12 })
  }))
}
