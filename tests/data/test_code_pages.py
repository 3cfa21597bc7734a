"""Texts in single bytes are read in the encoding of their language, short and long."""

from __future__ import annotations

import random
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coterie.data.code_pages import PAGES, WESTERN, code_page
from coterie.data.reading import find_form, read_file

SENTENCES = {
    "Czech": """
        Zítra bude v celé zemi pršet.
        Moje sestra studuje medicínu v Brně.
        Kolik stojí lístek do divadla?
        Nemůžu najít klíče od auta.
        Děkuji, účet prosím.
        Vlak do Plzně má zpoždění dvacet minut.
        Tento film se mi vůbec nelíbil.
        Dětem jsme koupili nové kolo.
        Rád bych zrušil svou objednávku.
        Včera večer jsme byli na koncertě.
        Prosím, zavřete okno, je tu zima.
        Příští týden začíná škola.""",
    "Hungarian": """
        Holnap egész nap esni fog az eső.
        Mennyibe kerül egy jegy a színházba?
        Szeretném lemondani a rendelésemet.
        A vonat húsz perc késéssel érkezik.
        Nem találom az autó kulcsait.
        A nővérem orvosnak tanul Szegeden.
        Köszönöm szépen, kérem a számlát.
        Ez a film egyáltalán nem tetszett nekem.
        Tegnap este koncerten voltunk.
        A gyerekeknek új biciklit vettünk.
        Kérem, csukja be az ablakot, hűvös van.
        Jövő héten kezdődik az iskola.""",
    "Polish": """
        Jutro w całym kraju będzie padać.
        Ile kosztuje bilet do teatru?
        Moja siostra studiuje medycynę w Łodzi.
        Nie mogę znaleźć kluczy do samochodu.
        Dziękuję, poproszę rachunek.
        Pociąg ma dwadzieścia minut opóźnienia.
        Ten film w ogóle mi się nie podobał.
        Kupiliśmy dzieciom nowy rower.
        Chciałbym anulować moje zamówienie.
        Wczoraj wieczorem byliśmy na koncercie.
        Proszę zamknąć okno, jest zimno.
        W przyszłym tygodniu zaczyna się szkoła.""",
    "German": """
        Morgen wird es im ganzen Land regnen.
        Wie viel kostet eine Karte fürs Theater?
        Meine Schwester studiert Medizin in Köln.
        Ich finde die Schlüssel vom Auto nicht.
        Vielen Dank, die Rechnung bitte.
        Der Zug hat zwanzig Minuten Verspätung.
        Dieser Film hat mir überhaupt nicht gefallen.
        Wir haben den Kindern ein neues Fahrrad gekauft.
        Ich möchte meine Bestellung stornieren.
        Gestern Abend waren wir im Konzert in der Hauptstraße.
        Bitte schließen Sie das Fenster, es ist kalt.
        Nächste Woche fängt die Schule an.""",
    "French": """
        Demain, il pleuvra dans tout le pays.
        Combien coûte un billet pour le théâtre ?
        Ma sœur étudie la médecine à Nîmes.
        Je ne trouve pas les clés de la voiture.
        Merci beaucoup, l’addition s’il vous plaît.
        Le train a vingt minutes de retard, ça m’énerve.
        Ce film ne m'a pas plu du tout.
        Nous avons acheté un nouveau vélo aux enfants.
        Je voudrais annuler ma commande.
        Hier soir, nous étions à un concert près de la forêt.
        Fermez la fenêtre, il fait froid où je suis assis.
        L'école recommence la semaine prochaine, après Noël.""",
    "Spanish": """
        Mañana lloverá en todo el país.
        ¿Cuánto cuesta una entrada para el teatro?
        Mi hermana estudia medicina en Cádiz.
        No encuentro las llaves del coche.
        Muchas gracias, la cuenta por favor.
        ¡El tren lleva veinte minutos de retraso!
        Esta película no me gustó nada.
        Compramos una bicicleta nueva a los niños.
        Quisiera cancelar mi pedido.
        Anoche estuvimos en un concierto con un pingüino.
        Cierre la ventana, hace frío aquí.
        La próxima semana empieza el colegio.""",
    "Swedish": """
        I morgon kommer det att regna i hela landet.
        Hur mycket kostar en biljett till teatern?
        Min syster läser till läkare i Malmö.
        Jag hittar inte nycklarna till bilen.
        Tack så mycket, kan jag få notan?
        Tåget är tjugo minuter försenat.
        Jag tyckte inte alls om den här filmen.
        Vi köpte en ny cykel till barnen.
        Jag skulle vilja avbeställa min order.
        I går kväll var vi på konsert på ett kafé.
        Stäng fönstret, det är kallt här.
        Nästa vecka börjar skolan.""",
    "Portuguese": """
        Amanhã vai chover em todo o país.
        Quanto custa um bilhete para o teatro?
        A minha irmã estuda medicina em Évora.
        Não encontro as chaves do carro.
        Muito obrigado, a conta por favor.
        O comboio tem vinte minutos de atraso, às vezes mais.
        Não gostei nada deste filme.
        Comprámos uma bicicleta nova às crianças.
        Queria cancelar as minhas três encomendas.
        Ontem à noite fomos a um concerto de canções.
        Feche a janela, está frio aqui.
        A escola começa na próxima semana.""",
}
CENTRAL = ("Czech", "Hungarian", "Polish")
LANGUAGES = {language: [line.strip() for line in text.strip().splitlines()] for language, text in SENTENCES.items()}


def written(rows: list[str]) -> str:
    return "text,kind\n" + "".join(f'"{row}",{"ab"[number % 2]}\n' for number, row in enumerate(rows))


@pytest.mark.parametrize("n_rows", [10, 3000])
@pytest.mark.parametrize("language", LANGUAGES)
def test_sentences_of_a_language_come_back(tmp_path: Path, language: str, n_rows: int) -> None:
    page = "cp1250" if language in CENTRAL else "cp1252"
    rows = LANGUAGES[language] * (n_rows // 10)
    for seed in range(5):
        chosen = random.Random(seed).sample(rows, n_rows)
        (tmp_path / "a.csv").write_bytes(written(chosen).encode(page))
        assert find_form(tmp_path / "a.csv").encoding == page
        assert read_file("csv", tmp_path / "a.csv")["text"].to_pylist() == chosen


@pytest.mark.parametrize("language", CENTRAL)
def test_texts_in_latin_2_come_back(tmp_path: Path, language: str) -> None:
    (tmp_path / "a.csv").write_bytes(written(LANGUAGES[language]).encode("iso8859-2"))
    assert read_file("csv", tmp_path / "a.csv")["text"].to_pylist() == LANGUAGES[language]


def test_languages_of_one_encoding_may_be_mixed() -> None:
    western = [line for language, lines in LANGUAGES.items() if language not in CENTRAL for line in lines]
    assert code_page([written(western).encode("cp1252")]) == "cp1252"
    central = [line for language in CENTRAL for line in LANGUAGES[language]]
    assert code_page([written(central).encode("cp1250")]) == "cp1250"


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1254", "Yarın bütün ülkede yağmur yağacak. Çocuklara yeni bir bisiklet aldık, şimdi ışıkları açın."),
        ("cp1257", "Rytoj visoje šalyje lis. Kiek kainuoja bilietas į teatrą? Dėkoju, norėčiau atšaukti užsakymą."),
        ("cp850", "Der Zug nach Köln hat Verspätung. Bitte schließen Sie das Fenster, mir ist überhaupt zu kühl."),
        ("cp852", "Příští týden začíná škola. Nemůžu najít klíče."),
        ("mac-roman", "Le théâtre est fermé après Noël. Où étions-nous à la fête?"),
    ],
)
def test_what_is_in_another_encoding_is_uncertain(encoding: str, text: str) -> None:
    assert code_page([written([text] * 10).encode(encoding)]) is None


@pytest.mark.parametrize(
    "text",
    ["5 m³ for £5 at 20 °C", "½ a cup, 5 µm ± 2, «x» ©", "it’s “quoted” – and… plain €5", "nº 3, 1ª", "col·lecció"],
)
def test_western_signs_are_no_letters(text: str) -> None:
    for n_rows in (1, 10):
        assert code_page([written([text] * n_rows).encode("cp1252")]) == "cp1252"


def test_a_name_from_elsewhere_changes_nothing() -> None:
    german = LANGUAGES["German"] * 20
    assert code_page([written([*german, "Größe der Bücher in ³ód¿"]).encode("cp1252")]) == "cp1252"


def test_a_single_letter_is_too_little_to_tell() -> None:
    assert code_page(["była".encode("cp1250")]) is None
    assert code_page(["była miła".encode("cp1250")]) == "cp1250"


@given(st.sampled_from(sorted(WESTERN)), st.data())
def test_letters_of_a_western_language_are_western(language: str, data: st.DataObject) -> None:
    letters = st.sampled_from(string.ascii_letters + WESTERN[language] + WESTERN[language].upper() + " ")
    assert code_page([data.draw(st.text(letters)).encode("cp1252")]) == "cp1252"


def test_every_alphabet_can_be_written() -> None:
    for page, (alphabets, signs) in PAGES.items():
        assert all(letters.encode(page).decode(page) == letters for letters in [*alphabets.values(), signs])
