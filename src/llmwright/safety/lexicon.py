"""The words of the injection guard, in English and Russian: data, no logic.

``*`` at the end of a word stands for any ending. A pair is two words with at most two between.
"""

from __future__ import annotations

WORDS: dict[str, str] = {
    "override": "ignor* disregard* forget forgetting overrid* bypass* neglect* discard* abandon*"
    " drop dismiss игнорир* проигнорир* забуд* отмени* отбрось* обойди* пренебрег* сбрось*"
    " нарушь* нарушай*",
    # Third person: somebody tells what somebody does, and commands nothing.
    "told_of": "ignores disregards forgets overrides bypasses neglects discards abandons drops"
    " dismisses игнорирует забывает отменяет отбрасывает обходит нарушает игнорируют нарушают",
    "void": "void cancelled canceled revoked obsolete nonexistent недействительн* отменен* отменяю*"
    " утратил* аннулирован*",
    "prior": "previous* prior none preceding above earlier before foregoing all any every"
    " everything initial original system current existing your its their given"
    " предыдущ* прежн* прошл* выше вышеуказанн* все всех всем ранее раньше прежде начальн* исходн*"
    " системн* текущ* свои* твои* своих тебе никак*",
    "instruction": "instruction* rule rules guideline* prompt prompts directive* direction*"
    " command* constraint* order orders policy policies restriction* training programming"
    " инструкц* правил* указани* промпт* директив* команд* приказ* ограничени* запрет* настройк*"
    " политик*",
    "told": "told said learned taught говорили сказали сказано сказанн* говорилось учили написанн*",
    "reveal": "reveal* show print repeat output display tell leak dump recite disclose translate"
    " summarize summarise copy convert encode write type send напиши* сообщи* отправь*"
    " переведи* скопируй* покажи*"
    " выведи* раскро* повтори* напечатай* расскажи* выдай* прочитай* распечатай*"
    " процитируй* перечисли*",
    "own": "your you given full entire whole verbatim hidden secret above initial exact"
    " целиком полностью свой свои своих свое своем твой твоя твое твоем твоей твоего твои твоих"
    " твоим тебе тебя ваш* вам скрыт* секретн* дословн*",
    "yours": "your you were твой твоя твое твоем твоей твоего твои твоих твоим тебе тебя ваш* вам",
    "ask": "what what's whats which какой какие какая каков каковы что",
    "wording": "text words word sentence message instructions everything"
    " текст* слова слов предложени* сообщени* инструкци* все",
    "position": "top beginning start above before preceding перед начал* выше до",
    "here": "conversation chat context window prompt message сообщени* разговор* беседы"
    " диалог* чата контекст*",
    "role": "pretend* roleplay imagine отныне притвори* вообрази* сыграй*",
    "unbound": "dan jailbroken unrestricted uncensored unfiltered amoral evil зл*й бесцензурн*",
    "mode": "godmode",
    "enable": "enter enable activate switch включи* активируй* перейди* войди*",
    "disable": "disable* remove deactivate* off bypass* отключи* сними* убери* выключи* обойди*",
    "safety": "safety censorship moderation safeguard* безопасност* цензур* модераци*",
    "filter": "filter filters restriction* фильтр* ограничени* запрет*",
    "obey": "follow* obey* comply execute выполни* слушай* слушаешь* подчин* исполни*",
    # Talk about attacks rather than an attack.
    "meta": "attack* inject* jailbreak* defend* defens* prevent* detect* guard* protect* phrase*"
    " malicious adversar* exploit* атак* внедрени* инъекц* джейлбрейк* защи* обнаруж* предотвра*"
    " фраз* злоумышл* вредоносн*",
    "explains": "how why when where как почему зачем когда где",
    "asks": "how what why when which where who is are does do did should"
    " как что почему зачем какой какие какая чем когда где кто можно",
    # Words after which a command may begin.
    "lead": "and then please now first also just but и затем потом пожалуйста теперь сначала а но",
}

PAIRS: dict[str, tuple[tuple[str, str], ...]] = {
    "override": (
        ("not", "follow obey"),
        ("pay", "no"),
        ("не", "обраща* следуй* соблюдай* слушай*"),
    ),
    "void": (
        ("no", "longer"),
        ("none", "exist* apply applies valid"),
        ("больше", "не"),
        ("не", "действу* существу*"),
    ),
    "secret": (
        ("system", "prompt* message* instruction* rules"),
        (
            "hidden secret initial original full entire whole",
            "prompt* message* instruction* rule* guideline*",
        ),
        ("text instructions prompt everything", "above"),
        ("above", "text instructions prompt"),
        ("your", "instructions prompt guidelines"),
        ("системн*", "промпт* инструкци* сообщени* подсказк* правил*"),
        ("скрыт* секретн* начальн* исходн*", "промпт* инструкци* указани* правил* парол*"),
        ("текст*", "инструкци* указани* выше"),
        ("свои свой твои твой твоих своих", "инструкци* промпт* указани*"),
    ),
    "role": (
        ("are", "now ai named"),
        ("act respond answer behave отвечай*", "as like будто как"),
        ("from", "now"),
        ("теперь", "ты"),
        ("ты", "теперь больше хакер* бот* ии"),
        ("этого", "момента"),
        ("веди", "себя"),
        ("представь*", "что ты"),
    ),
    "unbound": (
        (
            "no without zero",
            "restriction* rule* limit* filter* ethic* moral* censorship guideline* policy policies",
        ),
        ("do", "anything"),
        ("never", "refuse* no"),
        ("allowed permitted", "everything anything"),
        ("разрешено можно", "все"),
        ("без нет никаких", "ограничени* правил* цензур* фильтр* запрет*"),
        ("никогда", "отказыва*"),
    ),
    "own": (("the this", "system hidden initial original"),),
    "told": (("everything all", "above before"), ("все", "выше раньше прежде")),
    "disobey": (
        ("stop don't cease", "follow following obey obeying"),
        ("прекрати* перестань* хватит", "следова* соблюда* подчин* слуша*"),
    ),
    "mode": (
        ("developer god jailbreak debug", "mode"),
        ("режим*", "разработчик* бога отладки"),
    ),
    "obey": (("do", "what"),),
}
