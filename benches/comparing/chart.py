"""What was measured, as a picture: CPU time a request at the middle number of connections, with the range of the rounds."""

from html import escape

from comparing.results import median, span

WIDTH, LEFT, RIGHT, TOP, ROW, BAR = 760, 220, 90, 58, 46, 20

STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328 }
  .title { font-size: 15px; font-weight: 600 }
  .does, .axis { fill: #59636e; font-size: 12px }
  .forwards { fill: #8c959f }
  .decides { fill: #0969da }
  .range { stroke: #1f2328; stroke-width: 1.5 }
  .grid { stroke: #d1d9e0 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc }
    .does, .axis { fill: #9198a1 }
    .forwards { fill: #656c76 }
    .decides { fill: #4493f8 }
    .range { stroke: #f0f6fc }
    .grid { stroke: #3d444d }
  }
"""


def svg(outcome):
    """The picture, without a background of its own, in the colours of whoever looks at it."""
    connections = outcome["method"]["connections"][len(outcome["method"]["connections"]) // 2]
    crowd = outcome["contenders"]
    most = max(span(outcome, one["name"], connections, "cpu_us")[1] for one in crowd)
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if most / step <= 6)
    scale = (WIDTH - LEFT - RIGHT) / most
    height = TOP + ROW * len(crowd) + 26
    title = f"CPU time a request, {connections} connections, one core"
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">',
        f"<title>{title}: {escape(_spoken(outcome, crowd, connections))}</title>",
        f"<style>{STYLE}</style>",
        f'<text class="title" x="16" y="26">{title}</text>',
        f'<text class="axis" x="16" y="44">µs, median and range of the rounds, {outcome["date"]}; less is better</text>',
        *_grid(most, step, scale, height),
        *(line for at, one in enumerate(crowd) for line in _row(outcome, one, connections, TOP + ROW * at, scale)),
        "</svg>", ""])


def _spoken(outcome, crowd, connections):
    return "; ".join(f"{one['label']} ({one['does']}) {median(outcome, one['name'], connections, 'cpu_us'):.1f} µs" for one in crowd)


def _grid(most, step, scale, height):
    for mark in range(0, int(most) + 1, step):
        x = LEFT + mark * scale
        yield f'<line class="grid" x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{height - 22}"/>'
        yield f'<text class="axis" x="{x:.1f}" y="{height - 7}" text-anchor="middle">{mark}</text>'


def _row(outcome, one, connections, top, scale):
    figure = median(outcome, one["name"], connections, "cpu_us")
    low, high = (LEFT + edge * scale for edge in span(outcome, one["name"], connections, "cpu_us"))
    middle = top + ROW / 2
    kind = "forwards" if one["does"] == "forwards" else "decides"
    yield f'<text x="{LEFT - 12}" y="{middle - 2}" text-anchor="end">{escape(one["label"])}</text>'
    yield f'<text class="does" x="{LEFT - 12}" y="{middle + 14}" text-anchor="end">{escape(one["does"])}</text>'
    yield f'<rect class="{kind}" x="{LEFT}" y="{middle - BAR / 2}" width="{figure * scale:.1f}" height="{BAR}" rx="3"/>'
    yield f'<line class="range" x1="{low:.1f}" y1="{middle}" x2="{high:.1f}" y2="{middle}"/>'
    for edge in (low, high):
        yield f'<line class="range" x1="{edge:.1f}" y1="{middle - 4}" x2="{edge:.1f}" y2="{middle + 4}"/>'
    yield f'<text x="{high + 10:.1f}" y="{middle + 4.5}">{figure:.1f}</text>'
