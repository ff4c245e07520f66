from clipin_jax.report.markup import Markup, tag
from tests.support.html_pages import EVIL


def test_text_is_escaped_and_markup_is_not():
    inner = tag("b", EVIL, title='"')
    assert inner == (
        '<b title="&quot;">&lt;script&gt;alert(&#x27;&amp;&#x27;)&lt;/script&gt;</b>'
    )
    assert tag("p", inner, Markup("<i></i>"), None, class_="x", id=None) == (
        f'<p class="x">{inner}<i></i></p>'
    )
