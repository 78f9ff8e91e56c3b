"""Formulas of the equations' docstrings as MathML (for the page) and as plain text (for a terminal).

Reads the small part of LaTeX that the docstrings use. An unknown command is shown by its name.
"""

from __future__ import annotations

import html
import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

_TOKEN = re.compile(r"\\[a-zA-Z]+|\\.|\d+(?:\.\d+)?|\s+|.", re.DOTALL)
_GREEK = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "varepsilon": "ε", "zeta": "ζ", "eta": "η",
    "theta": "θ", "kappa": "κ", "lambda": "λ", "mu": "μ", "nu": "ν", "xi": "ξ", "pi": "π", "rho": "ρ", "sigma": "σ",
    "tau": "τ", "phi": "φ", "varphi": "φ", "chi": "χ", "psi": "ψ", "omega": "ω", "Delta": "Δ", "Gamma": "Γ",
    "Sigma": "Σ", "Phi": "Φ", "Omega": "Ω", "Lambda": "Λ", "Theta": "Θ", "Pi": "Π", "ell": "ℓ", "infty": "∞",
}  # fmt: skip
_OPERATORS = {
    "cdot": "·", "times": "×", "le": "≤", "leq": "≤", "ge": "≥", "geq": "≥", "ne": "≠", "neq": "≠", "approx": "≈",
    "sim": "~", "pm": "±", "in": "∈", "to": "→", "rightarrow": "→", "lceil": "⌈", "rceil": "⌉", "lfloor": "⌊",
    "rfloor": "⌋", "langle": "⟨", "rangle": "⟩", "ldots": "…", "dots": "…", "cdots": "…", "mid": "|",
    "lvert": "|", "rvert": "|", "sum": "Σ", "prod": "Π", "int": "∫", "partial": "∂", "propto": "∝", "ll": "≪",
    "gg": "≫", "equiv": "≡", "div": "÷", "lbrace": "{", "rbrace": "}", "{": "{", "}": "}", "%": "%", "|": "‖",
    "&": "&", "_": "_", "#": "#", "$": "$", "bmod": " mod ",
}  # fmt: skip
_SPACES = {";": 0.28, ",": 0.17, ":": 0.22, "!": 0.0, " ": 0.25, "quad": 1.0, "qquad": 2.0}
_ACCENTS = {"hat": "^", "widehat": "^", "tilde": "~", "bar": "‾", "overline": "‾", "vec": "→"}
_TEXTUAL = {"mathrm", "text", "operatorname", "mathit", "mathsf", "mathbf", "textrm", "mathcal", "textit", "mbox"}
_SIZES = {"left", "right", "big", "Big", "bigl", "bigr", "Bigl", "Bigr", "bigg", "biggl", "biggr", "Biggl", "Biggr"}
#: Stands for a space that LaTeX keeps (inside ``\\text``).
_HELD = "␣"
_LOOSE = "+-−·×/=≤≥<>≈, "


@dataclass
class Term:
    """A node of a formula: its kind, its text, its parts."""

    kind: str
    text: str = ""
    parts: list[Term] = field(default_factory=list)


class _Reader:
    def __init__(self, source: str) -> None:
        self.pieces = [piece for piece in _TOKEN.findall(source) if not piece.isspace()]
        self.at = 0

    def row(self, *, inside: bool = False) -> Term:
        parts: list[Term] = []
        while self.at < len(self.pieces):
            piece = self.pieces[self.at]
            if piece == "}" and inside:
                self.at += 1
                break
            if piece in "^_" and parts:
                self.at += 1
                parts.append(self._script(parts.pop(), piece))
                continue
            term = self.term()
            if term is not None:
                parts.append(term)
        return parts[0] if len(parts) == 1 else Term("row", parts=parts)

    def _script(self, base: Term, sign: str) -> Term:
        script = self.term() or Term("row")
        if (
            base.kind == "script"
            and not base.parts[1 if sign == "_" else 2].parts
            and not base.parts[1 if sign == "_" else 2].text
        ):
            base.parts[1 if sign == "_" else 2] = script
            return base
        empty = Term("row")
        return Term("script", parts=[base, script, empty] if sign == "_" else [base, empty, script])

    def term(self) -> Term | None:
        if self.at >= len(self.pieces):
            return None
        piece = self.pieces[self.at]
        self.at += 1
        if piece == "{":
            return self.row(inside=True)
        if piece.startswith("\\"):
            return self._command(piece[1:])
        if piece in "&}~" or piece in "^_":
            return None
        if piece[0].isdigit():
            return Term("number", piece)
        if piece.isalpha():
            return Term("name", piece)
        return Term("operator", "′" if piece == "'" else piece)

    def _command(self, name: str) -> Term | None:
        if name in _SIZES and self.at < len(self.pieces) and self.pieces[self.at] == ".":
            self.at += 1  # an invisible bracket
            return None
        if name in _SIZES:
            return self.term()
        if name in ("begin", "end"):
            self._braced_text()
            return None
        structured = self._structured(name)
        return structured if structured is not None else _symbol(name)

    def _structured(self, name: str) -> Term | None:
        """Commands that take parts."""
        if name in _TEXTUAL:
            return Term("text", self._braced_text())
        if name in ("frac", "tfrac", "dfrac"):
            return Term("fraction", parts=[self.term() or Term("row"), self.term() or Term("row")])
        if name in _ACCENTS:
            return Term("accent", _ACCENTS[name], [self.term() or Term("row")])
        return self._root() if name == "sqrt" else None

    def _root(self) -> Term:
        index = Term("row")
        if self.at < len(self.pieces) and self.pieces[self.at] == "[":
            end = self.pieces.index("]", self.at)
            index = Term("number", "".join(self.pieces[self.at + 1 : end]))
            self.at = end + 1
        return Term("root", parts=[self.term() or Term("row"), index])

    def _braced_text(self) -> str:
        if self.at < len(self.pieces) and self.pieces[self.at] != "{":
            self.at += 1
            return self.pieces[self.at - 1]
        depth, words = 0, []
        while self.at < len(self.pieces):
            piece = self.pieces[self.at]
            self.at += 1
            depth += {"{": 1, "}": -1}.get(piece, 0)
            if depth == 0:
                break
            if piece not in "{}":
                words.append(piece.removeprefix("\\") if piece != "\\ " else " ")
        return "".join(words)


def _symbol(name: str) -> Term:
    """Commands that stand for one sign or word."""
    if name == "\\":
        return Term("break")
    if name in _SPACES:
        return Term("space", str(_SPACES[name]))
    if name in _GREEK:
        return Term("name", _GREEK[name])
    return Term("operator", _OPERATORS[name]) if name in _OPERATORS else Term("text", name)


def parse(source: str) -> list[Term]:
    """Lines of a formula (a LaTeX line break starts a new one)."""
    # Spaces inside \text{...} carry meaning; everywhere else LaTeX ignores them.
    source = re.sub(r",\s*\\qquad", r" \\\\ ", source)  # side by side in a docstring, one below the other here
    kept = re.sub(r"\\(text|mbox|textrm)\{([^}]*)\}", lambda m: f"\\{m[1]}{{{m[2].replace(' ', _HELD)}}}", source)
    row = _Reader(kept).row()
    parts = row.parts if row.kind == "row" else [row]
    lines: list[list[Term]] = [[]]
    for part in parts:
        if part.kind == "break":
            lines.append([])
        else:
            lines[-1].append(part)
    return [Term("row", parts=line) for line in lines if line]


def _mathml(term: Term) -> str:
    parts = [_mathml(part) for part in term.parts]
    text = html.escape(term.text).replace(_HELD, "\xa0")
    if term.kind == "row":
        return f"<mrow>{''.join(parts)}</mrow>"
    if term.kind == "fraction":
        return f"<mfrac>{parts[0]}{parts[1]}</mfrac>"
    if term.kind == "root":
        return f"<mroot>{parts[0]}{parts[1]}</mroot>" if term.parts[1].text else f"<msqrt>{parts[0]}</msqrt>"
    if term.kind == "script":
        below, above = (bool(part.text or part.parts) for part in term.parts[1:])
        tag = "msubsup" if below and above else "msub" if below else "msup"
        shown = [parts[0], *(part for part, present in zip(parts[1:], (below, above), strict=True) if present)]
        return f"<{tag}>{''.join(shown)}</{tag}>"
    if term.kind == "accent":
        return f"<mover>{parts[0]}<mo>{text}</mo></mover>"
    if term.kind == "space":
        return f'<mspace width="{text}em"></mspace>'
    return {"number": f"<mn>{text}</mn>", "name": f"<mi>{text}</mi>", "operator": f"<mo>{text}</mo>",
            "text": f'<mi mathvariant="normal">{text}</mi>'}.get(term.kind, "")  # fmt: skip


def to_mathml(source: str) -> str:
    """A formula as MathML blocks, one per line."""
    return "".join(f'<math display="block">{_mathml(line)}</math>' for line in parse(source))


def _grouped(text: str) -> str:
    """Brackets around a text that would read wrongly without them."""
    simple = not any(sign in text for sign in _LOOSE) or (
        text.startswith("(") and text.endswith(")") and text.count("(") == 1
    )
    return text if simple else f"({text})"


def _plain(term: Term) -> str:
    parts = [_plain(part) for part in term.parts]
    if term.kind == "row":
        return _join(term.parts, parts)
    if term.kind == "fraction":
        return f"{_grouped(parts[0])} / {_grouped(parts[1])}"
    if term.kind == "root":
        return f"{'root' + parts[1] if parts[1] else 'sqrt'}({parts[0]})"
    if term.kind == "script":
        base = _grouped(parts[0])
        below = f"_{_grouped(_index(term.parts[1], parts[1]))}" if parts[1] else ""
        above = parts[2].replace(" / ", "/")
        return f"{base}{below}" + (f"^{_grouped(above)}" if above else "")
    if term.kind == "accent":
        return parts[0]
    if term.kind == "space":
        return " " if float(term.text) > 0 else ""
    return term.text


def _index(term: Term, text: str) -> str:
    """Letters that stand together in an index are one word."""
    return text.replace(" ", "") if all(part.kind == "name" for part in term.parts) else text


_FACTORS = {"name", "number", "script", "fraction", "root", "text", "row", "accent"}


def _join(terms: Sequence[Term], texts: Sequence[str]) -> str:
    """Write the terms of a row one after the other: spaces around binary signs and between factors."""
    said, previous = "", ""
    seen = [(term, text) for term, text in zip(terms, texts, strict=True) if term.kind != "space" or text.strip()]
    for index, (term, plain) in enumerate(seen):
        text = plain
        following = seen[index + 1] if index + 1 < len(seen) else None
        if term.kind == "space":
            said += " "
            continue
        if term.kind == "fraction" and (previous == "factor" or _multiplies(following)):
            text = f"({text})"
        if term.kind == "operator" and text in "+=−-·×≤≥<>≈/≠→∈":
            unary = text in "-−+" and (not said or said.rstrip()[-1:] in "(=,[+-/·×^" or previous == "")
            said = (
                f"{said.rstrip()} {text}{'' if unary else ' '}"
                if said and not said.endswith(("(", "["))
                else said + text
            )
        elif term.kind == "operator" and text == ",":
            said = f"{said.rstrip()}, "
        elif term.kind in _FACTORS and previous == "factor" and not said.endswith((" ", "(")):
            said = f"{said} {text}"
        else:
            said += text
        previous = "factor" if term.kind in _FACTORS or text in ")⌉⌋]" else "sign"
    return " ".join(said.replace("( ", "(").replace(" )", ")").replace(_HELD, " ").split())


def _multiplies(following: tuple[Term, str] | None) -> bool:
    """Whether a fraction before this term would read as dividing by it too."""
    return following is not None and (following[0].kind in _FACTORS or following[1] in "(⌈⌊/")


def to_text(source: str) -> str:
    """A formula in one or more lines of plain text."""
    return "\n".join(_plain(line) for line in parse(source))


def math_of(function: Callable[..., Any]) -> list[str]:
    """The LaTeX of the ``.. math::`` blocks in a function's docstring."""
    lines = (inspect.getdoc(inspect.unwrap(function)) or "").splitlines()
    blocks: list[str] = []
    for start, line in enumerate(lines):
        if not line.strip().startswith(".. math::"):
            continue
        depth = len(line) - len(line.lstrip())
        found = [line.split("math::", 1)[1]]
        for following in lines[start + 1 :]:
            if following.strip() and len(following) - len(following.lstrip()) <= depth:
                break
            found.append(following)
        blocks.append(" ".join(part.strip() for part in found if part.strip()))
    return [block for block in blocks if block]


def summary_of(function: Callable[..., Any]) -> str:
    """The first sentence of a function's docstring."""
    return (inspect.getdoc(inspect.unwrap(function)) or "").split("\n\n", 1)[0].replace("\n", " ").replace("``", "")


def symbols_of(function: Callable[..., Any]) -> dict[str, str]:
    """The LaTeX symbol of each parameter that the ``Parameters`` section of the docstring gives one."""
    lines = (inspect.getdoc(inspect.unwrap(function)) or "").splitlines()
    if "Parameters" not in lines:
        return {}
    symbols: dict[str, str] = {}
    names: list[str] = []
    told = ""
    for line in [*lines[lines.index("Parameters") + 2 :], "---"]:
        if line and not line.startswith(" "):
            symbols |= _matched(names, told)
            names, told = [name.strip() for name in line.split(":")[0].split(",")], ""
            if line.startswith("---"):
                break
        else:
            told += f" {line.strip()}"
    return symbols


def _matched(names: Sequence[str], told: str) -> dict[str, str]:
    """Names beside the symbols of one entry: one each, or all in one formula (``m, n, k``)."""
    found = re.findall(r":math:`([^`]+)`", told)
    if len(found) == 1 and len(names) > 1:
        found = [symbol.strip().removeprefix("\\;").removeprefix("\\,").strip() for symbol in found[0].split(",")]
    return dict(zip(names, found, strict=False)) if len(found) >= len(names) else {}
