"""Word lists and inventors of names and values. Invented names mix kana, common kanji and,
rarely, any kanji of JIS level 1, so that the model learns to copy what it has never seen."""

from __future__ import annotations

from random import Random

SURNAMES = [
    "佐藤",
    "鈴木",
    "高橋",
    "田中",
    "伊藤",
    "渡辺",
    "山本",
    "中村",
    "小林",
    "加藤",
    "吉田",
    "山田",
    "佐々木",
    "山口",
    "松本",
    "井上",
    "木村",
    "林",
    "斎藤",
    "清水",
    "山崎",
    "森",
    "池田",
    "橋本",
    "阿部",
    "石川",
    "山下",
    "中島",
    "石井",
    "小川",
    "前田",
    "岡田",
    "長谷川",
    "藤田",
    "後藤",
    "近藤",
    "村上",
    "遠藤",
    "青木",
    "坂本",
    "福田",
    "太田",
    "西村",
    "藤井",
    "金子",
    "岡本",
    "藤原",
    "三浦",
    "中野",
    "原田",
    "松田",
    "竹内",
    "小野",
    "田村",
    "中山",
    "和田",
    "石田",
    "森田",
    "上田",
    "柴田",
    "酒井",
    "宮崎",
    "横山",
    "高木",
    "安藤",
    "宮本",
    "大野",
    "小島",
    "谷口",
    "今井",
    "工藤",
    "高田",
    "増田",
    "丸山",
    "杉山",
    "村田",
    "大塚",
    "新井",
    "小山",
    "平野",
]
GIVEN_NAMES = [
    "太郎",
    "花子",
    "健一",
    "美咲",
    "大輔",
    "陽子",
    "翔太",
    "由美",
    "拓也",
    "恵子",
    "直樹",
    "真由美",
    "和也",
    "さくら",
    "誠",
    "彩",
    "浩二",
    "久美子",
    "亮",
    "明美",
    "智子",
    "優",
    "隆",
    "裕子",
    "達也",
    "奈々",
    "学",
    "綾子",
    "剛",
    "千尋",
    "修",
    "愛",
    "正",
    "葵",
    "豊",
    "楓",
    "進",
    "結衣",
    "勉",
    "凛",
    "茂",
    "七海",
    "昇",
    "遥",
    "清",
    "舞",
    "博",
    "光",
    "洋介",
    "里奈",
    "哲也",
    "麻衣",
    "康平",
    "友香",
    "慎一",
    "早紀",
    "雄大",
    "理恵",
    "俊介",
    "香織",
]
PREFECTURES = {
    "北海道": "札幌市", "青森県": "青森市", "岩手県": "盛岡市", "宮城県": "仙台市", "秋田県": "秋田市",
    "山形県": "山形市", "福島県": "福島市", "茨城県": "水戸市", "栃木県": "宇都宮市", "群馬県": "前橋市",
    "埼玉県": "さいたま市", "千葉県": "千葉市", "東京都": "新宿区", "神奈川県": "横浜市", "新潟県": "新潟市",
    "富山県": "富山市", "石川県": "金沢市", "福井県": "福井市", "山梨県": "甲府市", "長野県": "長野市",
    "岐阜県": "岐阜市", "静岡県": "静岡市", "愛知県": "名古屋市", "三重県": "津市", "滋賀県": "大津市",
    "京都府": "京都市", "大阪府": "大阪市", "兵庫県": "神戸市", "奈良県": "奈良市", "和歌山県": "和歌山市",
    "鳥取県": "鳥取市", "島根県": "松江市", "岡山県": "岡山市", "広島県": "広島市", "山口県": "山口市",
    "徳島県": "徳島市", "香川県": "高松市", "愛媛県": "松山市", "高知県": "高知市", "福岡県": "福岡市",
    "佐賀県": "佐賀市", "長崎県": "長崎市", "熊本県": "熊本市", "大分県": "大分市", "宮崎県": "宮崎市",
    "鹿児島県": "鹿児島市", "沖縄県": "那覇市",
}  # fmt: skip
CAPITALS = {
    "フランス": "パリ", "イギリス": "ロンドン", "ドイツ": "ベルリン", "イタリア": "ローマ",
    "スペイン": "マドリード", "中国": "北京", "韓国": "ソウル", "アメリカ": "ワシントン",
    "カナダ": "オタワ", "ロシア": "モスクワ", "インド": "ニューデリー", "タイ": "バンコク",
    "ベトナム": "ハノイ", "エジプト": "カイロ", "オーストラリア": "キャンベラ", "ブラジル": "ブラジリア",
    "メキシコ": "メキシコシティ", "ギリシャ": "アテネ", "トルコ": "アンカラ", "日本": "東京",
    "スウェーデン": "ストックホルム", "ノルウェー": "オスロ", "フィンランド": "ヘルシンキ",
    "オーストリア": "ウィーン", "ポーランド": "ワルシャワ", "ポルトガル": "リスボン",
    "ペルー": "リマ", "キューバ": "ハバナ", "ケニア": "ナイロビ", "モンゴル": "ウランバートル",
}  # fmt: skip
CATEGORIES = {
    "果物": [
        "りんご",
        "みかん",
        "ぶどう",
        "もも",
        "バナナ",
        "いちご",
        "なし",
        "すいか",
        "メロン",
        "さくらんぼ",
    ],
    "野菜": [
        "にんじん",
        "たまねぎ",
        "キャベツ",
        "きゅうり",
        "なす",
        "トマト",
        "だいこん",
        "ほうれん草",
        "かぼちゃ",
        "ねぎ",
    ],
    "動物": ["犬", "猫", "馬", "牛", "ぞう", "うさぎ", "きつね", "さる", "ライオン", "くま"],
    "鳥": ["すずめ", "からす", "はと", "つばめ", "わし", "ふくろう", "にわとり", "ペンギン"],
    "乗り物": ["電車", "バス", "自転車", "飛行機", "船", "タクシー", "トラック", "新幹線"],
    "家具": ["机", "いす", "本棚", "ベッド", "ソファ", "たんす"],
    "楽器": ["ピアノ", "ギター", "バイオリン", "太鼓", "フルート", "トランペット"],
    "色": ["赤", "青", "黄色", "緑", "白", "黒", "紫", "茶色"],
    "スポーツ": ["野球", "サッカー", "テニス", "水泳", "柔道", "剣道", "卓球", "バレーボール"],
    "飲み物": ["お茶", "水", "コーヒー", "紅茶", "牛乳", "ジュース"],
}
ANTONYMS = {
    "大きい": "小さい", "高い": "低い", "長い": "短い", "新しい": "古い", "明るい": "暗い", "重い": "軽い",
    "速い": "遅い", "強い": "弱い", "暑い": "寒い", "広い": "狭い", "多い": "少ない", "近い": "遠い",
    "上": "下", "右": "左", "前": "後ろ", "内": "外", "朝": "夜", "勝つ": "負ける", "開く": "閉まる",
    "始まる": "終わる", "買う": "売る", "入る": "出る", "増える": "減る", "押す": "引く",
}  # fmt: skip
POLITE = {
    "食べる": "食べます", "飲む": "飲みます", "行く": "行きます", "来る": "来ます", "見る": "見ます",
    "聞く": "聞きます", "話す": "話します", "読む": "読みます", "書く": "書きます", "買う": "買います",
    "使う": "使います", "作る": "作ります", "待つ": "待ちます", "会う": "会います", "帰る": "帰ります",
    "休む": "休みます", "働く": "働きます", "学ぶ": "学びます", "泳ぐ": "泳ぎます", "走る": "走ります",
    "始める": "始めます", "終わる": "終わります", "送る": "送ります", "調べる": "調べます",
}  # fmt: skip
WEEKDAYS = ("月曜日", "火曜日", "水曜日", "木曜日", "金曜日", "土曜日", "日曜日")

_MORAE = [
    "ア",
    "イ",
    "ウ",
    "エ",
    "オ",
    "カ",
    "キ",
    "ク",
    "ケ",
    "コ",
    "サ",
    "シ",
    "ス",
    "セ",
    "ソ",
    "タ",
    "チ",
    "ツ",
    "テ",
    "ト",
    "ナ",
    "ニ",
    "ネ",
    "ノ",
    "ハ",
    "ヒ",
    "フ",
    "ヘ",
    "ホ",
    "マ",
    "ミ",
    "ム",
    "メ",
    "モ",
    "ヤ",
    "ユ",
    "ヨ",
    "ラ",
    "リ",
    "ル",
    "レ",
    "ロ",
    "ワ",
    "ガ",
    "ギ",
    "グ",
    "ゲ",
    "ゴ",
    "ザ",
    "ジ",
    "ズ",
    "ゼ",
    "ゾ",
    "ダ",
    "デ",
    "ド",
    "バ",
    "ビ",
    "ブ",
    "ベ",
    "ボ",
    "パ",
    "ピ",
    "プ",
    "ペ",
    "ポ",
    "キャ",
    "シュ",
    "ショ",
    "チャ",
    "リュ",
    "ファ",
    "フィ",
    "ティ",
]
_ENDINGS = ("", "", "", "ン", "ー", "ット", "ス", "ア", "ル", "クス", "ナ", "ティ")
_NAME_KANJI = (
    "青赤白黒金銀朝日月星光空海山川林森木花葉草石岩松竹梅桜藤楓桐柳杉栄和平安福寿喜幸明正清美豊富吉大小高長広新古"
    "東西南北中上下前本元一二三四五六七八九十千万天地水火風土雪雨雲霧虹泉池湖島岬浜浦崎原野田谷沢丘坂橋道里村町京都"
    "鶴亀鷹鳩雀鹿虎龍鳳馬若宝玉珠鏡剣弓船車米麦菊蓮蘭萩桃柿栗松丸友信義仁礼智忠孝誠心愛希望未来成功進取創共同協"
)
# Voiced and small ones too: a token that was never an answer cannot be learnt by an adapter, since
# the tied embedding it is read out with stays frozen.
_HIRAGANA = (
    "あいうえおかきくけこさしすせそたちつてとなにぬねのはひふへほまみむめもやゆよらりるれろわをん"
    "がぎぐげござじずぜぞだぢづでどばびぶべぼぱぴぷぺぽっゃゅょぁぃぅぇぉ"
)
_KATAKANA = "".join(chr(point) for point in range(0x30A1, 0x30FD))
_SIGNS = (
    "".join(chr(point) for point in range(0x21, 0x7F))
    + "、。・「」『』【】（）！？…〜％＆＋－／：；＠￥円年月日"
)


def _rare_kanji() -> str:
    # JIS X 0208 level 1: rows 16 to 47, by way of the EUC-JP codec.
    pairs = (bytes((row + 160, cell + 160)) for row in range(16, 48) for cell in range(1, 95))
    return "".join(pair.decode("euc_jp", "ignore") for pair in pairs)


RARE_KANJI = _rare_kanji()

_COMPANY_SUFFIXES = [
    "製作所",
    "工業",
    "商店",
    "食品",
    "電機",
    "精機",
    "技研",
    "物産",
    "ソフト",
    "運輸",
    "建設",
    "農園",
    "印刷",
    "化学",
    "製薬",
    "商事",
    "産業",
    "システム",
    "機械",
    "繊維",
    "不動産",
    "水産",
    "酒造",
    "製菓",
    "家具",
    "電子",
    "設計",
    "出版",
    "興業",
    "テック",
]
_COMPANY_PREFIXES = ("株式会社", "株式会社", "株式会社", "有限会社", "合同会社")
_SHOP_SUFFIXES = [
    "カフェ",
    "書店",
    "食堂",
    "ホテル",
    "旅館",
    "クリニック",
    "図書館",
    "美術館",
    "水族館",
    "高校",
    "学園",
    "工房",
    "美容室",
    "市役所",
    "公園",
    "動物園",
    "温泉",
    "パン店",
    "花店",
    "薬局",
    "スーパー",
    "歯科",
    "スタジオ",
    "ジム",
    "博物館",
    "植物園",
    "商店街",
    "劇場",
    "寿司",
    "ラーメン",
]
_PRODUCT_KINDS = [
    "掃除機",
    "加湿器",
    "扇風機",
    "炊飯器",
    "冷蔵庫",
    "電気ポット",
    "時計",
    "カメラ",
    "プリンター",
    "照明",
    "いす",
    "机",
    "自転車",
    "かばん",
    "靴",
    "傘",
    "弁当箱",
    "水筒",
    "毛布",
    "枕",
    "包丁",
    "鍋",
    "アプリ",
    "会計ソフト",
    "石けん",
    "クッキー",
    "せんべい",
    "緑茶",
    "みそ",
    "しょうゆ",
]
PAYMENTS = [
    "現金",
    "クレジットカード",
    "電子マネー",
    "銀行振込",
    "コンビニ払い",
    "代金引換",
    "QRコード決済",
    "口座振替",
    "請求書払い",
]
MATERIALS = [
    "木",
    "竹",
    "鉄",
    "アルミ",
    "綿",
    "麻",
    "絹",
    "革",
    "ガラス",
    "陶器",
    "ステンレス",
    "プラスチック",
    "紙",
    "羊毛",
    "ゴム",
]
SPECIALTIES = [
    "自動車部品",
    "半導体",
    "家具",
    "和菓子",
    "パン",
    "日本酒",
    "時計",
    "眼鏡",
    "靴",
    "陶磁器",
    "工作機械",
    "医療機器",
    "食品",
    "衣料品",
    "印刷物",
    "ロボット",
    "電池",
    "楽器",
    "文房具",
    "化粧品",
    "農産物",
    "包装資材",
    "ネジ",
    "ポンプ",
    "センサー",
    "健康食品",
    "業務用ソフト",
    "学習教材",
    "紅茶",
    "うどん",
]
CERTIFICATES = (
    "ISO9001",
    "ISO14001",
    "Pマーク",
    "ISO27001",
    "有機JAS",
    "HACCP",
    "エコアクション21",
)


def katakana_word(rng: Random) -> str:
    return "".join(rng.choice(_MORAE) for _ in range(rng.randint(2, 4))) + rng.choice(_ENDINGS)


def kanji_word(rng: Random) -> str:
    pool = RARE_KANJI if rng.random() < 0.3 else _NAME_KANJI
    return "".join(rng.choice(pool) for _ in range(rng.randint(2, 3)))


def hiragana_word(rng: Random) -> str:
    return "".join(rng.choice(_HIRAGANA) for _ in range(rng.randint(2, 4)))


def latin_word(rng: Random) -> str:
    letters = "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(3, 7)))
    return letters.capitalize()


def any_string(rng: Random) -> str:
    """Characters of every kind without sense, so that each of them has been written once."""
    pools = (_HIRAGANA, _KATAKANA, _NAME_KANJI, RARE_KANJI, RARE_KANJI, _SIGNS)
    runs = range(rng.randint(1, 4))
    return "".join(
        rng.choice(pool)
        for pool in rng.choices(pools, k=len(runs))
        for _ in range(rng.randint(1, 4))
    )


def invented_word(rng: Random) -> str:
    maker = rng.choices((katakana_word, kanji_word, hiragana_word, latin_word), (45, 35, 14, 6))[0]
    return maker(rng)


def company(rng: Random) -> tuple[str, str]:
    """(full name, short name): 株式会社ルミナ精機, ルミナ精機."""
    short = invented_word(rng) + (rng.choice(_COMPANY_SUFFIXES) if rng.random() < 0.8 else "")
    prefix = rng.choice(_COMPANY_PREFIXES)
    return (short + prefix if rng.random() < 0.15 else prefix + short), short


def shop(rng: Random) -> tuple[str, str]:
    name = invented_word(rng) + rng.choice(_SHOP_SUFFIXES)
    return name, name


def product(rng: Random) -> tuple[str, str]:
    word = invented_word(rng)
    if rng.random() < 0.4:
        word += rng.choice("ABCDEFGHJKLMNPQRSTVWXYZ") + str(rng.choice((1, 2, 3, 5, 7, 10, 20, 50, 100, 200, 300, 500)))  # fmt: skip
    kind = rng.choice(_PRODUCT_KINDS)
    name = rng.choice((f"{kind}「{word}」", f"{word}{kind}", word, f"「{word}」"))
    return name, name


def person(rng: Random) -> str:
    given = rng.choice(GIVEN_NAMES) if rng.random() < 0.8 else kanji_word(rng)[:2]
    return rng.choice(SURNAMES) + given


def town(rng: Random) -> str:
    return invented_word(rng)[:4] + rng.choice(("町", "町", "本町", "台", "通り", "ヶ丘"))


def address(rng: Random) -> str:
    """Mostly invented cities, so that an address is copied and not completed from memory."""
    prefecture = rng.choice(tuple(PREFECTURES))
    city = invented_word(rng)[:3] + rng.choice(("市", "市", "町", "区", "村", "郡"))
    if rng.random() < 0.12:
        city = PREFECTURES[prefecture]
    if rng.random() < 0.12:
        prefecture = ""
    return f"{prefecture}{city}{town(rng)}{rng.randint(1, 9)}丁目{rng.randint(1, 30)}番{rng.randint(1, 20)}号"


def short_address(rng: Random) -> str:
    return address(rng) if rng.random() < 0.6 else address(rng).split("丁目")[0][:-1]


def hour(rng: Random, low: int, high: int) -> str:
    value = rng.randint(low, high)
    half = "半" if rng.random() < 0.25 else ("30分" if rng.random() < 0.1 else "")
    if rng.random() < 0.55:
        return f"{'午前' if value < 12 else '午後'}{value if value <= 12 else value - 12}時{half}"
    return f"{value}時{half}"


def opening_hours(rng: Random) -> str:
    return f"{hour(rng, 5, 11)}から{hour(rng, 14, 23)}まで"


def weekdays(rng: Random) -> str:
    return rng.choice(
        (
            rng.choice(WEEKDAYS),
            "と".join(rng.sample(WEEKDAYS, 2)),
            "土日祝日",
            f"第{rng.randint(1, 4)}{rng.choice(WEEKDAYS)}",
            f"毎週{rng.choice(WEEKDAYS)}",
            "年末年始",
            "日曜日と祝日",
        )
    )


def phone(rng: Random) -> str:
    digits = "".join(str(rng.randint(0, 9)) for _ in range(7))
    area = rng.choice(
        ("03", "06", "011", "045", "052", "075", "092", "0120", "090", "0263", "0852")
    )
    return (
        f"{area}-{digits[:3]}-{digits[3:]}"
        if area == "0120"
        else f"{area}-{rng.randint(100, 9999)}-{digits[3:]}"
    )


def email(rng: Random) -> str:
    user = rng.choice(
        ("info", "support", "contact", "sales", "help", "desk", latin_word(rng).lower())
    )
    return f"{user}@{latin_word(rng).lower()}.{rng.choice(('co.jp', 'jp', 'com', 'example'))}"


def year(rng: Random) -> str:
    if rng.random() < 0.2:
        return f"{rng.choice(('昭和', '平成', '令和', '大正'))}{rng.randint(2, 40)}年"
    return f"{rng.randint(1860, 2025)}年"


def date(rng: Random) -> str:
    return f"{rng.randint(1, 12)}月{rng.randint(1, 28)}日"


def yen(rng: Random) -> str:
    value = rng.randint(1, 99) * rng.choice((10, 100, 100, 1000, 1000, 10000))
    text = f"{value:,}" if rng.random() < 0.4 else str(value)
    return rng.choice(("", "", "税込", "税別")) + text + "円"


def people(rng: Random) -> str:
    return f"{rng.choice(('', '', '約'))}{rng.choice((rng.randint(2, 99), rng.randint(1, 50) * 10, rng.randint(1, 30) * 100))}人"


def period(rng: Random) -> str:
    return rng.choice(
        (
            f"{rng.randint(1, 10)}年間",
            f"{rng.randint(1, 24)}か月",
            f"{rng.randint(2, 90)}日間",
            f"{rng.randint(1, 8)}週間",
        )
    )


def within(rng: Random) -> str:
    return rng.choice(
        (
            f"{rng.randint(2, 60)}日以内",
            f"{rng.randint(1, 8)}週間以内",
            f"{rng.randint(2, 14)}営業日以内",
            f"{rng.randint(1, 6)}か月以内",
        )
    )


def payment(rng: Random) -> str:
    chosen = rng.sample(PAYMENTS, rng.randint(1, 3))
    return "と".join(chosen) if len(chosen) < 3 else "、".join(chosen)


def station(rng: Random) -> str:
    return f"{rng.choice((rng.choice(SURNAMES), invented_word(rng)[:4]))}駅"


def walk(rng: Random) -> str:
    way = rng.choice(("から徒歩", "から徒歩", "からバスで", "から車で"))
    return f"{station(rng)}{way}{rng.randint(1, 30)}分"
