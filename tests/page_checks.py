"""What every local page must be in a real browser: narrow, readable, named, and by itself."""

from __future__ import annotations

from headless_browser import Browser

OVERFLOW = "document.scrollingElement.scrollWidth - window.innerWidth"

UNNAMED = """
[...document.querySelectorAll('svg,a,button,input,[role=region],nav')].filter(e => {
  if (e.type === 'hidden' || !e.getClientRects().length) return false;
  if (e.tagName === 'INPUT') return !e.labels.length;
  if (e.getAttribute('aria-label') || e.querySelector(':scope > title')) return false;
  return e.tagName.toLowerCase() === 'svg' || !e.textContent.trim();
}).map(e => e.outerHTML.slice(0, 120))
"""

# Contrast of every visible text with what lies behind it, as WCAG 2 computes it.
FAINT_TEXT = """
(() => {
  const parts = c => [...c.match(/[\\d.]+/g).map(Number), 1].slice(0, 4);
  const channel = v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = c => {
    const [r, g, b] = parts(c).map(v => channel(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = e => {
    for (; e; e = e.parentElement) {
      const colour = getComputedStyle(e).backgroundColor;
      if (parts(colour)[3] > 0.9) return colour;
    }
    return 'rgb(255,255,255)';
  };
  const out = [];
  for (const e of document.querySelectorAll('body *')) {
    if (!e.getClientRects().length || /script|title/i.test(e.tagName)) continue;
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own) continue;
    const style = getComputedStyle(e);
    const ink = e.closest('svg') ? style.fill : style.color;
    const [a, b] = [light(ink), light(behind(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) out.push(`${e.tagName} ${e.textContent.slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return out;
})()
"""


def check_page(browser: Browser, address: str) -> None:
    """Narrow and wide, light and dark."""
    for width, dark in ((360, False), (360, True), (1200, False), (1200, True)):
        browser.window(width, 800, dark=dark)
        browser.open(address)
        where = f"{address} at {width} px, {'dark' if dark else 'light'}"
        assert browser.evaluate(OVERFLOW) <= 0, where
        assert browser.evaluate(UNNAMED) == [], where
        assert browser.evaluate(FAINT_TEXT) == [], where
        assert browser.evaluate("document.querySelectorAll('h1').length") == 1, where
        assert browser.evaluate("document.documentElement.lang") == "en", where


def log_in(browser: Browser, address: str, token: str) -> None:
    """By the address that the command shows; then the token is gone from it."""
    browser.open(f"{address}login#token={token}")
    browser.wait("!!document.getElementById('sections')")
    assert "token" not in browser.evaluate("location.href")
    assert browser.evaluate("document.cookie") == ""
