# ruff: noqa: RUF001 (ambiguous characters are what these texts are for)
"""Small texts of our own in several languages and in code, which vocabularies are trained on."""

__all__ = ["TEXTS"]

_ENGLISH = """\
The reader sees the old file, the new one, or none; naïve café owners don't re-read résumés twice.
A joy from start to end: the story is told well, the music is lovely, and nobody in the cinema was bored.
We had bread and cheese by the river, and then it rained; the waiter brought the bill and we paid in cash.
I'm sure they'll say it wasn't theirs, that you've lost it, and that she'd have kept it. He's right, isn't he?
On Monday the train leaves at 10:30 from platform 4; tickets cost 12.50 euros, or 1,250 for the whole group.
The quick brown fox jumps over the lazy dog while seventeen small children are counting the falling leaves.
Please send the report to the office before the end of the week, or write to support@example.com for help.
There is nothing better than a long walk in the evening, when the streets are quiet and the lights come on.
"Where were you?" she asked. "At home," he said, "reading the book that you gave me last year - twice!"
Unbelievable: the new version of the program is ten times faster, and it needs less than half of the memory.
The doctor told the patient to drink more water, to sleep longer, and to come back in two or three weeks.
In 1989, 2,000 people lived in the town; in 2023 there were 15,764. The population has grown by 688.2%.
"""
_GERMAN = """\
Größere Straßen führen über Brücken; die Übung beginnt um acht Uhr mit schönen Liedern.
Der Zug nach München fährt heute wegen Bauarbeiten zwanzig Minuten später von Gleis sieben ab.
Das Wetter wird morgen besser, sagte die Frau, und die Kinder können wieder im Garten spielen.
Die Geschwindigkeitsbegrenzung auf der Autobahn ist aufgehoben; bitte fahren Sie trotzdem vorsichtig!
"""
_ROMANCE = """\
Une phrase française où l'été déjà s'achève, et une œuvre reçue avec grâce à Noël.
Aujourd'hui, l'homme qu'elle avait rencontré près de la forêt n'était plus là; il est parti en voyage.
Le garçon mange une pomme, puis il va à l'école avec sa sœur qui porte un grand sac bleu.
A reunião começa às nove horas; não há lugar para todos, mas a discussão será transmitida amanhã.
O coração da cidade está cheio de música, de luz e de pessoas que vêm de muito longe para dançar.
El niño comió una manzana y después se fue al colegio. ¿Qué hora es? ¡Qué mañana tan bonita!
"""
_CODE = """\
def read_lines(path, encoding="utf-8"):
    with open(path, encoding=encoding) as file:
        return [line.rstrip("\\n") for line in file if line.strip()]

class Counter(dict):
    def add(self, key, amount=1):
        self[key] = self.get(key, 0) + amount
\t\tif (x != 0 && y <= 10) { return a[i++] * 0x1F; }  // the rest
for (int i = 0; i < n; ++i) { sum += values[i]; }
import numpy as np
assert np.allclose(model.predict(inputs), expected, atol=1e-6), "not the same"
<div class="main"><a href="http://www.example.com/index.html?page=2&lang=en">next</a></div>
{"name": "tokenizer", "version": "1.0.2", "values": [1, 2.5, null, true], "path": "/usr/local/bin"}
SELECT name, count(*) FROM orders WHERE price >= 100 GROUP BY name ORDER BY 2 DESC;
"""
_OTHERS = """\
Tiếng Việt có nhiều dấu: người, được, không, trường, nghĩa. Zażółć gęślą jaźń. Příliš žluťoučký kůň.
日本語の文章と中文的句子,以及 한국어 문장입니다 그리고 각각의 낱말.
今天天气很好，我们去公园散步。他说：“这本书非常有意思！”東京は大きな都市で、人が多いです。ありがとうございます。
Русский текст с буквой ё и й. Ελληνικά με τόνους: άνθρωπος, λέξη. עברית العربية हिन्दी ไทย
Сегодня хорошая погода, и мы идём гулять в парк; дети играют, а старики сидят на скамейке.
Numbers 0 1 2 3 4 5 6 7 8 9 10 2023 and signs . , : ; ! ? ' " ( ) [ ] - _ # @ & * / + = % $ … “ ” — é
½ of 100 € is 50 €; 2² = 4, x ≠ y → z … © 2024 ™ 👍🏽 😀 😀 👩\u200d👩\u200d👧 🇩🇪 ❤\ufe0f
"""

_BLOCKS = (_ENGLISH, _GERMAN, _ROMANCE, _CODE, _OTHERS)

# Lines, and whole blocks, so that line ends and indentation are among what is learned.
TEXTS: tuple[str, ...] = (*(line for block in _BLOCKS for line in block.splitlines() if line), *_BLOCKS)
