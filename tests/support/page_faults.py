"""What is wrong with a drawn page, found by script: texts that are cut off, pages that scroll sideways,
and what axe-core calls serious."""

from __future__ import annotations

from importlib import resources
from typing import Any

from playwright.sync_api import Page

AXE = resources.files("axe_playwright_python").joinpath("axe.min.js")
SERIOUS = ("serious", "critical")

CUT_TEXTS = """() => {
  const hides = style => ['hidden', 'clip'].includes(style);
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode, text = node.data.trim();
    const own = node.parentElement;
    if (!text || !own.checkVisibility({opacityProperty: true, visibilityProperty: true})) continue;
    // Icons are words of a font; code is scrolled; what is left for screen readers alone has no size.
    if (own.closest('[translate="no"], style, script, noscript, [data-testid="stIconMaterial"], svg')) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const box of range.getClientRects()) {
      if (!box.width || parseFloat(getComputedStyle(own).fontSize) < 2) continue;
      for (let over = own; over && over !== document.body; over = over.parentElement) {
        const style = getComputedStyle(over), frame = over.getBoundingClientRect();
        if (frame.width <= 2 || frame.height <= 2) break;
        if (['auto', 'scroll'].includes(style.overflowX) && over.scrollWidth > over.clientWidth) break;
        if (['auto', 'scroll'].includes(style.overflowY) && over.scrollHeight > over.clientHeight) break;
        const across = hides(style.overflowX) && (box.right > frame.right + 1.5 || box.left < frame.left - 1.5);
        const down = hides(style.overflowY) && (box.bottom > frame.bottom + 6 || box.top < frame.top - 6);
        if (across || down) { found.push(text.slice(0, 60)); break; }
        if (style.position === 'fixed') break;
      }
    }
  }
  for (const field of document.querySelectorAll('input')) {
    if (field.checkVisibility() && field.scrollWidth > field.clientWidth + 1 && (field.value || field.placeholder))
      found.push('input: ' + (field.value || field.placeholder).slice(0, 60));
  }
  return [...new Set(found)];
}"""
WIDER = """() => {
  const parts = [document.scrollingElement, ...document.querySelectorAll('[data-testid="stMain"], main')];
  return parts.some(part => part.scrollWidth > part.clientWidth + 1);
}"""
OVERLAPS = """() => {
  const controls = [...document.querySelectorAll(
    'button, a[href], input, textarea, select, [role="button"], [role="combobox"], h1, h2, h3')].filter(one =>
      one.checkVisibility({opacityProperty: true, visibilityProperty: true}) && !one.closest('[data-testid="stSidebar"], header')
      && one.getBoundingClientRect().width > 2);
  const found = [];
  controls.forEach((one, at) => controls.slice(at + 1).forEach(other => {
    if (one.contains(other) || other.contains(one)) return;
    const a = one.getBoundingClientRect(), b = other.getBoundingClientRect();
    const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (across > 3 && down > 3 && !one.closest('label')?.contains(other) && !other.closest('label')?.contains(one)
        && one.parentElement !== other.parentElement?.parentElement && other.parentElement !== one.parentElement?.parentElement)
      found.push((one.innerText || one.ariaLabel || one.tagName).slice(0, 30) + ' / ' + (other.innerText || other.ariaLabel || other.tagName).slice(0, 30));
  }));
  return found;
}"""


def layout_faults(page: Page) -> list[str]:
    """Texts that are cut off, controls that lie on each other, and a page wider than its window."""
    faults = [f"cut: {text}" for text in page.evaluate(CUT_TEXTS)]
    faults += [f"overlap: {pair}" for pair in page.evaluate(OVERLAPS)]
    if page.evaluate(WIDER):
        faults.append("the page scrolls sideways")
    return faults


def access_faults(page: Page) -> list[str]:
    """What axe-core finds serious or critical, with where it is."""
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate(AXE.read_text(encoding="utf-8"))
    options = {"resultTypes": ["violations"]}
    found: dict[str, Any] = page.evaluate("options => axe.run(document, options)", options)
    return [
        f"{rule['id']}: {node['html'][:160]} {node['failureSummary'][:200]}"
        for rule in found["violations"]
        if rule["impact"] in SERIOUS
        for node in rule["nodes"]
    ]
