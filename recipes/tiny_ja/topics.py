"""What a handbook answers: everyday topics, each with a time limit, a way, a place and so on.

Topics and sides are multiplied, and the answers are free sentences rather than 'the X of Y is Z',
so that the model learns to give back whatever sentence was asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from recipes.tiny_ja import words
from recipes.tiny_ja.attributes import Attribute, Value

TOPICS = tuple(
    "見学 修理 領収書の発行 会員登録 説明会 写真撮影 忘れ物の受け取り 荷物の預かり 体験教室 商品の交換 住所の変更 解約 面接 団体利用 会議室の利用 "
    "サンプルの請求 カタログの請求 見積もり 出張 健康診断 備品の購入 残業 遅刻の連絡 早退 在宅勤務 社員証の再発行 鍵の貸し出し 自転車の貸し出し "
    "傘の貸し出し ゴミの回収 避難訓練 清掃 朝礼 講習会 試験 入会 退会 名義の変更 ポイントの交換 クーポンの利用 ギフト包装 取り置き 配達 再配達 "
    "下取り 電池の交換 部品の注文 設置工事 初期設定 更新の手続き 資料の閲覧 本の貸し出し 図書の返却 給食の申し込み 部活動の届け出 募集 応募 "
    "インターン 懇親会 表彰式 展示会 試食 試着 採寸 注文の変更 注文の取り消し 海外への発送 大口の注文 名入れ 研磨 校正 充電 お手入れ 廃棄".split()
)  # fmt: skip


@dataclass(frozen=True)
class _Side:
    label: str
    value: Value
    answers: tuple[str, ...]
    questions: tuple[str, ...]


def _day(rng: Random) -> str:
    return rng.choice(
        (
            f"{rng.randint(2, 30)}日前まで", "前日まで", f"{rng.choice(words.WEEKDAYS)}まで", f"毎月{rng.randint(2, 28)}日まで",
            f"{words.date(rng)}まで", f"{rng.randint(2, 8)}週間前まで", f"当日の{words.hour(rng, 8, 20)}まで", words.within(rng),
        )
    )  # fmt: skip


def _way(rng: Random) -> str:
    return rng.choice(
        ("電話", "メール", "専用のアプリ", "窓口", "申込書", "郵送", "ファクス", "ウェブサイト", "QRコード", "社内システム", "店頭の端末", "チャット", f"「{words.invented_word(rng)}」")
    )  # fmt: skip


def _place(rng: Random) -> str:
    return rng.choice(
        (
            f"{rng.randint(1, 9)}階の{rng.choice(('受付', '会議室', '事務室', '売り場', '窓口', '休憩室'))}", f"{words.invented_word(rng)}館", f"{rng.choice('東西南北')}棟の{rng.randint(1, 5)}階",
            f"{words.invented_word(rng)}センター", f"{words.station(rng)}前の{rng.choice(('支店', '営業所', '広場'))}", f"第{rng.randint(1, 9)}{rng.choice(('倉庫', '工場', '会議室', '展示室'))}",
        )
    )  # fmt: skip


def _desk(rng: Random) -> str:
    part = rng.choice(
        ("総務", "営業", "広報", "人事", "経理", "企画", "品質管理", "製造", "開発", "物流", "サポート", "法務")
    )  # fmt: skip
    return rng.choice(
        (f"{part}部", f"{part}課", f"{part}部の{words.person(rng)}", f"{words.person(rng)}さん", f"{words.invented_word(rng)}係")
    )  # fmt: skip


def _thing(rng: Random) -> str:
    things = "身分証 印鑑 申込書 会員証 筆記用具 上履き 動きやすい服 飲み物 診察券 予約番号 保証書 写真 社員証 同意書 タオル 手袋".split()
    return "と".join(rng.sample(things, rng.randint(1, 2)))


def _when(rng: Random) -> str:
    return rng.choice(
        (
            f"毎週{rng.choice(words.WEEKDAYS)}", f"第{rng.randint(1, 4)}{rng.choice(words.WEEKDAYS)}", f"{words.hour(rng, 8, 18)}", f"毎月{rng.randint(1, 28)}日",
            f"{words.date(rng)}", f"平日の{words.hour(rng, 8, 18)}", f"{rng.randint(1, 12)}月", f"年{rng.randint(1, 6)}回",
        )
    )  # fmt: skip


_SIDES = (
    _Side("期限", _day,
        ("{e}の{t}は{v}です。", "{t}は{v}にお願いします。", "{e}の{t}は{v}受け付けています。", "{t}の締め切りは{v}となっています。", "{t}は、{v}に済ませてください。", "{t}は{v}なら無料です。"),
        ("{e}の{t}はいつまでにすればいいですか？", "{e}の{t}の期限を教えてください。", "{e}の{t}の締め切りは？", "{e}の{t}はいつまで受け付けていますか？", "{t}は何日前までですか？", "いつまでに{t}をすればよいですか？",
         "{e}で{t}をしたいのですが、いつまでですか？", "{t}に期限はありますか？", "{e}の{t}は、いつまで間に合いますか？", "何日までに{t}を頼めばいいですか？")),
    _Side("方法", _way,
        ("{e}の{t}は{v}で受け付けています。", "{t}は{v}でできます。", "{t}の申し込みは{v}からお願いします。", "{e}では、{t}は{v}で行います。", "{t}には{v}を使ってください。", "{t}をご希望の方は{v}でご連絡ください。"),
        ("{e}の{t}はどうすればいいですか？", "{e}の{t}の方法を教えてください。", "{t}はどうやってしますか？", "{e}で{t}をするには？", "{t}のやり方は？", "{t}を申し込むにはどうすればいいですか？", "どうやって{e}に{t}を頼みますか？",
         "{t}を頼みたいのですが、どうしたらいいですか？", "{t}の手続きは何でできますか？", "{e}の{t}のしかたがわかりません。", "{t}の申し込み方法は何ですか？")),
    _Side("場所", _place,
        ("{e}の{t}は{v}で行います。", "{t}の場所は{v}です。", "{t}は{v}までお越しください。", "{v}で{t}ができます。", "{e}では{v}が{t}の場所です。"),
        ("{e}の{t}はどこでできますか？", "{e}の{t}の場所を教えてください。", "{t}はどこですか？", "{t}をするにはどこへ行けばいいですか？", "どこで{t}をしていますか？", "{e}の{t}の会場は？", "どこに行くと{t}ができますか？")),
    _Side("担当", _desk,
        ("{e}の{t}は{v}が担当しています。", "{t}の担当は{v}です。", "{t}については{v}にお尋ねください。", "{v}が{t}を受け持っています。", "{t}のことは{v}へどうぞ。"),
        ("{e}の{t}の担当は誰ですか？", "{e}の{t}は誰に頼めばいいですか？", "{t}について聞きたいときはどこに連絡しますか？", "{t}の窓口はどこですか？", "誰が{e}の{t}をしていますか？", "{t}の係を教えてください。", "{t}のことは誰に聞けばいいですか？", "{t}を担当している部署はどこですか？")),
    _Side("料金", words.yen,
        ("{e}の{t}は{v}です。", "{t}の料金は{v}です。", "{t}には{v}かかります。", "{t}は一回{v}で承ります。", "{e}では{t}に{v}いただいています。"),
        ("{e}の{t}はいくらですか？", "{e}の{t}の料金を教えてください。", "{t}にはいくらかかりますか？", "{t}の費用は？", "いくら払えば{t}ができますか？", "{t}にお金はかかりますか？", "{e}で{t}をするといくらですか？", "{t}は有料ですか？")),
    _Side("所要時間", words.period,
        ("{e}の{t}には{v}かかります。", "{t}は{v}ほどで終わります。", "{t}にかかる期間は{v}です。", "{e}では{t}に{v}をいただきます。"),
        ("{e}の{t}にはどのくらいかかりますか？", "{t}はどれくらいの期間がかかりますか？", "{e}の{t}はいつ終わりますか？", "{t}にかかる時間は？", "どのくらいで{t}が終わりますか？", "{t}は何日かかりますか？")),
    _Side("日時", _when,
        ("{e}の{t}は{v}です。", "{t}は{v}に行います。", "{t}は{v}からです。", "{e}では{v}に{t}をしています。", "{t}の予定は{v}です。"),
        ("{e}の{t}はいつですか？", "{t}の日時を教えてください。", "いつ{t}がありますか？", "{e}では{t}をいつしていますか？", "{t}の予定は？", "{t}があるのはいつですか？", "いつ{e}に行けば{t}ができますか？")),
    _Side("持ち物", _thing,
        ("{e}の{t}には{v}をお持ちください。", "{t}に必要なものは{v}です。", "{t}には{v}が要ります。", "{t}のときは{v}を持って来てください。"),
        ("{e}の{t}に必要なものは何ですか？", "{t}には何を持って行けばいいですか？", "{t}の持ち物を教えてください。", "何があれば{t}ができますか？", "{t}のときに用意するものは？", "{t}に要るものは何ですか？")),
    _Side("定員", words.people,
        ("{e}の{t}は{v}までです。", "{t}の定員は{v}です。", "{t}は一度に{v}できます。"),
        ("{e}の{t}は何人までですか？", "{t}の定員は？", "{t}には何人参加できますか？", "何人まで{t}ができますか？", "{t}の人数に制限はありますか？")),
)  # fmt: skip


def topic_attribute(rng: Random) -> Attribute:
    """One topic seen from one side, answered in one of its sentences."""
    topic, side = rng.choice(TOPICS), rng.choice(_SIDES)
    answer = rng.choice(side.answers).replace("{t}", topic)
    questions = tuple(question.replace("{t}", topic) for question in side.questions)
    return Attribute(f"{topic}の{side.label}", side.value, answer, questions, kinds="")
