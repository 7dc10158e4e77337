"""Asking pages in a browser."""

__all__ = ["contrast", "wait_until"]


def wait_until(page, condition: str) -> None:
    """Asks from outside. Playwright's own waiting runs code in the page, which the page's policy forbids."""
    for _ in range(200):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never became true: {condition}")


def contrast(page, name: str) -> float:
    """Contrast (WCAG 2) of a colour of the page's style, as in "text" for --text, with that of the page."""
    return page.evaluate(_CONTRAST, name)


_CONTRAST = """name => {
  const root = getComputedStyle(document.documentElement);
  const light = property => {
    const hex = root.getPropertyValue(property).trim().slice(1);
    const [r, g, b] = [0, 2, 4].map(i => parseInt(hex.slice(i, i + 2), 16) / 255)
      .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const [high, low] = [light("--" + name), light("--page")].sort((a, b) => b - a);
  return (high + 0.05) / (low + 0.05);
}"""
