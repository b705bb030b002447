"""Pairs about passages of a small company's documents: sound ones written by hand, in many wordings and
notations, and bad ones, each made of a sound one by one planted mistake."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from mlx_finetuning.documents.chunks import Chunk
from mlx_finetuning.documents.document import Block
from mlx_finetuning.documents.pairs import ABSENT_ANSWER, Kind, Pair


@dataclass(frozen=True)
class Case:
    """A pair with the chunk that it is about."""

    pair: Pair
    chunk: Chunk
    planted: str = ""
    """What is wrong with it."""
    before: Pair | None = None
    """The sound pair that a mistake was planted in."""


# heading, text, pairs as (question, answer, quote, kind)
_PASSAGES: tuple[tuple[str, str, tuple[tuple[str, str, str, Kind], ...]], ...] = (
    ("第3章 勤務時間", "始業時刻は午前8時45分、終業時刻は午後5時30分とする。休憩は正午から1時間とする。フレックスタイム制を利用する者は、前月の25日までに勤怠システム「タイムノート」で届け出る。", (
        ("始業時刻は何時ですか。", "午前8時45分です。", "始業時刻は午前8時45分、終業時刻は午後5時30分とする。", "fact"),
        ("仕事が終わる終業時刻を教えてください。", "終業時刻は17時30分です。", "始業時刻は午前8時45分、終業時刻は午後5時30分とする。", "fact"),
        ("休憩はいつからどれくらい取れますか？", "正午から1時間です。", "休憩は正午から1時間とする。", "fact"),
        ("フレックスタイム制を使うには、いつまでに何で届け出ますか。", "前月の25日までに、勤怠システムの「タイムノート」で届け出ます。", "フレックスタイム制を利用する者は、前月の25日までに勤怠システム「タイムノート」で届け出る。", "procedure"),
    )),
    ("年次有給休暇", "入社から6か月が経過し、8割以上出勤した社員には、10日の年次有給休暇を与える。取得を希望する者は、3日前までに所属長へ申請する。半日単位の取得は年12回を限度とする。", (
        ("年次有給休暇は、入社してどのくらいで何日もらえますか。", "入社から6か月が経過し8割以上出勤していれば、10日もらえます。", "入社から6か月が経過し、8割以上出勤した社員には、10日の年次有給休暇を与える。", "fact"),
        ("有給休暇の取得は何日前までに申請しますか？", "3日前までに、所属長へ申請します。", "取得を希望する者は、3日前までに所属長へ申請する。", "fact"),
        ("半日単位の有給休暇は年に何回まで取れますか。", "12回までです。", "半日単位の取得は年12回を限度とする。", "fact"),
        ("有給休暇を得るのに必要な出勤の割合は？", "80%以上の出勤です。", "入社から6か月が経過し、8割以上出勤した社員には、10日の年次有給休暇を与える。", "fact"),
    )),
    ("出張旅費規程", "宿泊費は1泊12,000円を上限とする。東京と大阪に泊まるときは、15,000円まで認める。日当は国内が2,500円、海外が6,000円である。精算は帰社後7日以内に経理課へ行う。", (
        ("出張の宿泊費の上限はいくらですか。", "1泊12,000円です。", "宿泊費は1泊12,000円を上限とする。", "fact"),
        ("大阪に出張で泊まるとき、宿泊費はいくらまで認められますか？", "1万5千円まで認められます。", "東京と大阪に泊まるときは、15,000円まで認める。", "fact"),
        ("国内と海外の日当の違いを教えてください。", "国内は2,500円、海外は6,000円です。", "日当は国内が2,500円、海外が6,000円である。", "comparison"),
        ("出張旅費の精算は、いつまでにどこで行いますか。", "帰社後7日以内に、経理課で行います。", "精算は帰社後7日以内に経理課へ行う。", "procedure"),
    )),
    ("会議室の予約", "第1会議室は20名、第2会議室は8名まで使える。予約は総務課の田中が受け付け、内線は115番である。取り消しは前日の午後3時までに連絡する。飲食は第2会議室に限って認める。", (
        ("第1会議室には何人入れますか。", "20人まで使えます。", "第1会議室は20名、第2会議室は8名まで使える。", "fact"),
        ("会議室の予約を受け付けているのは誰ですか？", "総務課の田中さんです。", "予約は総務課の田中が受け付け、内線は115番である。", "fact"),
        ("会議室の予約の取り消しは、いつまでに連絡すればよいですか。", "前日の15時までに連絡します。", "取り消しは前日の午後3時までに連絡する。", "fact"),
        ("飲食ができる会議室はどちらですか。", "第2会議室です。", "飲食は第2会議室に限って認める。", "fact"),
    )),
    ("沿革", "当社は昭和48年4月1日に名古屋市で設立された。平成12年に福岡支店、令和3年に仙台支店を開いた。創業者は服部正造で、現在の社長は服部恵である。", (
        ("会社が設立されたのはいつですか。", "1973年4月1日です。", "当社は昭和48年4月1日に名古屋市で設立された。", "fact"),
        ("福岡支店は何年に開かれましたか？", "平成12年（2000年）です。", "平成12年に福岡支店、令和3年に仙台支店を開いた。", "fact"),
        ("仙台支店を開いたのは西暦で何年ですか。", "2021年です。", "平成12年に福岡支店、令和3年に仙台支店を開いた。", "fact"),
        ("現在の社長の名前を教えてください。", "服部恵です。", "創業者は服部正造で、現在の社長は服部恵である。", "fact"),
    )),
    ("価格表", "品名 | 単価（円） | 入数\nみかん（箱） | 3,200 | 10kg\nりんご（箱） | 4,500 | 5kg\n干し柿（袋） | 680 | 6個", (
        ("みかん1箱の単価はいくらですか。", "3,200円です。", "みかん（箱） | 3,200 | 10kg", "fact"),
        ("りんごの箱には何kg入っていますか？", "5kgです。", "りんご（箱） | 4,500 | 5kg", "fact"),
        ("干し柿の一袋は何個入りですか。", "6個入りです。", "干し柿（袋） | 680 | 6個", "fact"),
        ("みかんとりんごの箱は、どちらが高いですか。", "りんごの箱です。りんごは4,500円、みかんは3,200円です。", "みかん（箱） | 3,200 | 10kg\nりんご（箱） | 4,500 | 5kg", "comparison"),
    )),
    ("複合機の紙詰まり", "エラーE-32が出たら、まず電源を切り、前面カバーを開ける。次に緑のレバーを下げ、紙をゆっくり引き抜く。最後にカバーを閉じ、電源を入れる。直らないときは、オフィスサポート（0120-345-678）へ連絡する。", (
        ("複合機にエラーE-32が出たとき、最初にすることは何ですか。", "電源を切り、前面カバーを開けます。", "エラーE-32が出たら、まず電源を切り、前面カバーを開ける。", "procedure"),
        ("紙詰まりの紙を引き抜く前に、何を下げますか？", "緑のレバーを下げます。", "次に緑のレバーを下げ、紙をゆっくり引き抜く。", "fact"),
        ("複合機の紙詰まりが直らないときの連絡先を教えてください。", "オフィスサポート（0120-345-678）へ連絡します。", "直らないときは、オフィスサポート（0120-345-678）へ連絡する。", "fact"),
        ("複合機の紙詰まりを直す手順は？", "電源を切って前面カバーを開け、緑のレバーを下げて紙を引き抜き、カバーを閉じて電源を入れます。", "まず電源を切り、前面カバーを開ける。次に緑のレバーを下げ、紙をゆっくり引き抜く。最後にカバーを閉じ、電源を入れる。", "procedure"),
    )),
    ("用語の定義", "「正社員」とは、期間の定めのない労働契約を結び、週5日勤務する者をいう。「嘱託」とは、定年の後に1年ごとの契約で再び雇われた者をいう。定年は満60歳とし、65歳まで再雇用する。", (
        ("嘱託とは、どのような人のことですか。", "定年の後に、1年ごとの契約で再び雇われた人のことです。", "「嘱託」とは、定年の後に1年ごとの契約で再び雇われた者をいう。", "definition"),
        ("正社員の定義を教えてください。", "期間の定めのない労働契約を結び、週5日勤務する者です。", "「正社員」とは、期間の定めのない労働契約を結び、週5日勤務する者をいう。", "definition"),
        ("定年は何歳ですか。", "満60歳です。", "定年は満60歳とし、65歳まで再雇用する。", "fact"),
        ("再雇用は何歳まで続きますか？", "65歳までです。", "定年は満60歳とし、65歳まで再雇用する。", "fact"),
    )),
    ("第12回 安全会議 議事録", "日時は2026年10月5日（月）14:00から15:30まで、場所は本社3階の大会議室であった。佐藤委員長が、9月の事故は2件で、いずれも倉庫の通路で起きたと報告した。対策として、通路に黄色の線を引くことを決めた。次回は11月9日に開く。", (
        ("第12回の安全会議が開かれた日はいつですか。", "令和8年10月5日です。", "日時は2026年10月5日（月）14:00から15:30まで、場所は本社3階の大会議室であった。", "fact"),
        ("9月の事故は何件ありましたか。", "2件ありました。", "佐藤委員長が、9月の事故は2件で、いずれも倉庫の通路で起きたと報告した。", "fact"),
        ("事故への対策として決まったことは何ですか？", "通路に黄色の線を引くことです。", "対策として、通路に黄色の線を引くことを決めた。", "fact"),
        ("第12回安全会議の次の会議はいつ開かれますか。", "11月9日に開かれます。", "次回は11月9日に開く。", "fact"),
    )),
    ("図書室の利用", "図書室は平日の10:00から18:00まで開いている。貸し出しは一人5冊、期間は2週間である。返却が遅れると、遅れた日数だけ貸し出しを止める。新しい本の希望は、毎月末に司書の東雲へ伝える。", (
        ("図書室は何時に閉まりますか。", "午後6時に閉まります。", "図書室は平日の10:00から18:00まで開いている。", "fact"),
        ("図書室では一人何冊まで借りられますか？", "5冊まで借りられます。", "貸し出しは一人5冊、期間は2週間である。", "fact"),
        ("本の返却が遅れるとどうなりますか。", "遅れた日数だけ、貸し出しが止められます。", "返却が遅れると、遅れた日数だけ貸し出しを止める。", "fact"),
        ("新しい本の希望は誰に伝えますか。", "司書の東雲さんに伝えます。", "新しい本の希望は、毎月末に司書の東雲へ伝える。", "fact"),
    )),
    ("育児休業", "育児休業は、子が1歳に達するまで取得できる。保育所に入れないときは、2歳まで延長できる。申し出は開始日の1か月前までに人事課へ書面で行う。休業中の給与は支払わないが、雇用保険から賃金の67%が給付される。", (
        ("育児休業は子どもが何歳になるまで取れますか。", "1歳になるまで取得できます。", "育児休業は、子が1歳に達するまで取得できる。", "fact"),
        ("育児休業を2歳まで延ばせるのは、どんなときですか。", "保育所に入れないときです。", "保育所に入れないときは、2歳まで延長できる。", "fact"),
        ("育児休業の申し出の方法を教えてください。", "開始日の1か月前までに、人事課へ書面で申し出ます。", "申し出は開始日の1か月前までに人事課へ書面で行う。", "procedure"),
        ("育児休業中に雇用保険から給付される割合は？", "賃金の67％です。", "休業中の給与は支払わないが、雇用保険から賃金の67%が給付される。", "fact"),
    )),
    ("パスワードの管理", "パスワードは12文字以上とし、英字・数字・記号を混ぜる。90日ごとに変更し、過去3回のものは使えない。5回続けて間違えると、アカウントは30分間ロックされる。解除は情報システム室に依頼する。", (
        ("パスワードは何文字以上にする必要がありますか。", "12文字以上です。", "パスワードは12文字以上とし、英字・数字・記号を混ぜる。", "fact"),
        ("パスワードの変更は何日ごとですか？", "90日ごとです。", "90日ごとに変更し、過去3回のものは使えない。", "fact"),
        ("パスワードを続けて間違えるとアカウントはどうなりますか。", "5回続けて間違えると、30分間ロックされます。", "5回続けて間違えると、アカウントは30分間ロックされる。", "fact"),
        ("ロックされたアカウントの解除は、どこに依頼しますか。", "情報システム室です。", "解除は情報システム室に依頼する。", "fact"),
    )),
    ("配送と送料", "送料は全国一律700円で、5,000円以上の注文では無料になる。冷蔵便は330円を加える。午前11時までの注文は当日に発送し、北海道と沖縄には3日かかる。届け先の変更は発送前に限る。", (
        ("送料はいくらですか。", "全国一律700円です。", "送料は全国一律700円で、5,000円以上の注文では無料になる。", "fact"),
        ("送料が無料になるのはいくら以上の注文ですか？", "5千円以上の注文です。", "送料は全国一律700円で、5,000円以上の注文では無料になる。", "fact"),
        ("冷蔵便にすると、いくら加わりますか。", "330円が加わります。", "冷蔵便は330円を加える。", "fact"),
        ("注文の当日に発送されるのは、何時までの注文ですか。", "午前11時までの注文です。", "午前11時までの注文は当日に発送し、北海道と沖縄には3日かかる。", "fact"),
        ("沖縄への配送には何日かかりますか。", "3日かかります。", "午前11時までの注文は当日に発送し、北海道と沖縄には3日かかる。", "fact"),
    )),
    ("健康診断", "健康診断は毎年6月に、みなと病院で受ける。対象は全ての社員で、35歳以上には胃の検査が加わる。費用は会社が負担する。結果は7月末までに本人へ郵送し、再検査の者には産業医の松岡が面談する。", (
        ("健康診断は毎年何月に受けますか。", "6月に受けます。", "健康診断は毎年6月に、みなと病院で受ける。", "fact"),
        ("健康診断で胃の検査が加わるのは何歳からですか。", "35歳以上です。", "対象は全ての社員で、35歳以上には胃の検査が加わる。", "fact"),
        ("健康診断の費用は誰が負担しますか？", "会社が負担します。", "費用は会社が負担する。", "fact"),
        ("再検査になった人と面談する産業医は誰ですか。", "松岡です。", "結果は7月末までに本人へ郵送し、再検査の者には産業医の松岡が面談する。", "fact"),
    )),
    ("入館証", "入館証は入社の日に総務課が渡す。なくしたときは、すぐに総務課へ届け、再発行の手数料1,500円を払う。来客用の入館証は受付に20枚ある。退職するときは、最後の出勤日に返す。", (
        ("入館証はいつ、どこから渡されますか。", "入社の日に、総務課から渡されます。", "入館証は入社の日に総務課が渡す。", "fact"),
        ("入館証の再発行の手数料はいくらですか。", "1,500円です。", "なくしたときは、すぐに総務課へ届け、再発行の手数料1,500円を払う。", "fact"),
        ("来客用の入館証は何枚ありますか？", "受付に20枚あります。", "来客用の入館証は受付に20枚ある。", "fact"),
        ("退職するとき、入館証はいつ返しますか。", "最後の出勤日に返します。", "退職するときは、最後の出勤日に返す。", "fact"),
    )),
    ("製品仕様 エアクリーナーAX-200", "エアクリーナーAX-200の適用床面積は31m2、消費電力は最大48Wである。運転音は静音モードで19dB、強で52dBとなる。フィルターは約2年で交換する。本体の重さは6.8kg、電源コードの長さは1.8mである。", (
        ("エアクリーナーAX-200の消費電力は最大何Wですか。", "最大48Wです。", "エアクリーナーAX-200の適用床面積は31m2、消費電力は最大48Wである。", "fact"),
        ("AX-200の静音モードの運転音は？", "19dBです。", "運転音は静音モードで19dB、強で52dBとなる。", "fact"),
        ("AX-200のフィルターは、どのくらいで交換しますか。", "約2年で交換します。", "フィルターは約2年で交換する。", "fact"),
        ("AX-200の本体の重さを教えてください。", "6.8kgです。", "本体の重さは6.8kg、電源コードの長さは1.8mである。", "fact"),
    )),
    ("第二十条 懲戒", "懲戒は、けん責、減給、出勤停止、懲戒解雇の四種とする。出勤停止は十四日を限度とする。減給は、一回の額が平均賃金の一日分の半額を超えない。懲戒を行うときは、本人に弁明の機会を与える。", (
        ("懲戒には何種類ありますか。", "けん責、減給、出勤停止、懲戒解雇の4種です。", "懲戒は、けん責、減給、出勤停止、懲戒解雇の四種とする。", "fact"),
        ("出勤停止は何日までですか？", "14日までです。", "出勤停止は十四日を限度とする。", "fact"),
        ("懲戒を行うときに、本人に与えるものは何ですか。", "弁明の機会です。", "懲戒を行うときは、本人に弁明の機会を与える。", "fact"),
    )),
    ("社用車の使い方", "社用車を使うときは、前日までに車両管理簿に記入する。運転できるのは、免許を取ってから1年以上の社員に限る。給油は「丸八石油」で行い、カードは総務課の金庫にある。事故が起きたら、警察と総務課の高木に連絡する。", (
        ("社用車を使うには、いつまでに何に記入しますか。", "前日までに、車両管理簿に記入します。", "社用車を使うときは、前日までに車両管理簿に記入する。", "procedure"),
        ("社用車を運転できるのはどんな社員ですか。", "免許を取ってから1年以上の社員です。", "運転できるのは、免許を取ってから1年以上の社員に限る。", "fact"),
        ("社用車の給油はどこで行いますか？", "「丸八石油」で行います。", "給油は「丸八石油」で行い、カードは総務課の金庫にある。", "fact"),
        ("社用車で事故が起きたら、どこに連絡しますか。", "警察と、総務課の高木に連絡します。", "事故が起きたら、警察と総務課の高木に連絡する。", "procedure"),
    )),
    ("研修の日程", "日 | 内容 | 講師\n4月1日 | 入社式 | 社長\n4月2日 | 安全教育 | 野村\n4月3日 | 接客マナー | 外部講師\n4月6日 | 工場の見学 | 岩崎", (
        ("安全教育の研修は何月何日ですか。", "4月2日です。", "4月2日 | 安全教育 | 野村", "fact"),
        ("工場の見学の講師は誰ですか？", "岩崎です。", "4月6日 | 工場の見学 | 岩崎", "fact"),
        ("4月3日の研修の内容を教えてください。", "接客マナーです。", "4月3日 | 接客マナー | 外部講師", "fact"),
    )),
    ("災害時の行動", "震度5強以上の地震があったときは、机の下に入り、揺れが収まってから第一公園に避難する。点呼は各課の課長が行い、本部へ10分以内に報告する。備蓄品は地下倉庫に、水を3日分、食料を2日分置いている。", (
        ("震度5強以上の地震のとき、揺れが収まった後はどこに避難しますか。", "第一公園に避難します。", "震度5強以上の地震があったときは、机の下に入り、揺れが収まってから第一公園に避難する。", "fact"),
        ("避難のときの点呼は誰が行いますか。", "各課の課長が行います。", "点呼は各課の課長が行い、本部へ10分以内に報告する。", "fact"),
        ("備蓄の水と食料は、それぞれ何日分ありますか？", "水は3日分、食料は2日分です。", "備蓄品は地下倉庫に、水を3日分、食料を2日分置いている。", "comparison"),
        ("備蓄品はどこに置いてありますか。", "地下倉庫です。", "備蓄品は地下倉庫に、水を3日分、食料を2日分置いている。", "fact"),
    )),
    ("会費と退会", "正会員の年会費は8,000円、学生会員は3,000円とする。会費は毎年5月31日までに、みどり銀行の口座へ振り込む。退会する者は、退会届を事務局に出す。納めた会費は返さない。", (
        ("正会員と学生会員の年会費はいくらですか。", "正会員は8,000円、学生会員は3,000円です。", "正会員の年会費は8,000円、学生会員は3,000円とする。", "comparison"),
        ("年会費はいつまでに振り込みますか。", "毎年5月31日までに振り込みます。", "会費は毎年5月31日までに、みどり銀行の口座へ振り込む。", "fact"),
        ("退会するには何を出しますか？", "退会届を事務局に出します。", "退会する者は、退会届を事務局に出す。", "procedure"),
        ("会を退会したとき、納めた会費は返ってきますか。", "いいえ、返りません。", "納めた会費は返さない。", "fact"),
    )),
    ("電話応対", "電話は3回鳴るまでに取り、「お電話ありがとうございます。みどり商店でございます」と名乗る。担当者が不在のときは、用件、名前、折り返しの番号を聞き、メモを残す。苦情は、その日のうちに店長の小松へ報告する。", (
        ("電話は何回鳴るまでに取りますか。", "3回鳴るまでに取ります。", "電話は3回鳴るまでに取り、「お電話ありがとうございます。みどり商店でございます」と名乗る。", "fact"),
        ("担当者が不在のとき、電話の相手に聞くことは何ですか。", "用件、名前、折り返しの番号です。", "担当者が不在のときは、用件、名前、折り返しの番号を聞き、メモを残す。", "fact"),
        ("電話で受けた苦情は誰に報告しますか？", "店長の小松に報告します。", "苦情は、その日のうちに店長の小松へ報告する。", "fact"),
    )),
    ("時間外勤務手当", "時間外勤務には、通常の賃金の25%を加えて支払う。月60時間を超えた分は50%、深夜（22:00から5:00まで）は25%を加える。課長以上の管理職には、深夜の分だけを支払う。申請は翌月3日までに行う。", (
        ("時間外勤務に加えて支払われる割合は、通常の賃金の何%ですか。", "25％です。", "時間外勤務には、通常の賃金の25%を加えて支払う。", "fact"),
        ("月60時間を超えた時間外勤務には、何%が加わりますか。", "50%が加わります。", "月60時間を超えた分は50%、深夜（22:00から5:00まで）は25%を加える。", "fact"),
        ("深夜の勤務とは何時から何時までのことですか？", "午後10時から午前5時までです。", "月60時間を超えた分は50%、深夜（22:00から5:00まで）は25%を加える。", "definition"),
        ("時間外勤務の申請の期限はいつですか。", "翌月3日までです。", "申請は翌月3日までに行う。", "fact"),
    )),
    ("保証規定", "保証の期間は、お買い上げの日から1年とする。取扱説明書に従った使い方で故障したときは、無料で修理する。落下や水ぬれによる故障、保証書の提示がないときは、有料になる。修理の受付は、サービスセンター横浜（045-123-4567）である。", (
        ("製品の保証の期間はどれくらいですか。", "お買い上げの日から1年です。", "保証の期間は、お買い上げの日から1年とする。", "fact"),
        ("無料で修理してもらえるのはどんなときですか。", "取扱説明書に従った使い方で故障したときです。", "取扱説明書に従った使い方で故障したときは、無料で修理する。", "fact"),
        ("落下による故障の修理は有料ですか、無料ですか？", "有料です。", "落下や水ぬれによる故障、保証書の提示がないときは、有料になる。", "fact"),
        ("修理の受付の電話番号を教えてください。", "サービスセンター横浜の045-123-4567です。", "修理の受付は、サービスセンター横浜（045-123-4567）である。", "fact"),
    )),
)

_ABSENT = (
    "住宅手当の金額はいくらですか。", "社員食堂の営業時間を教えてください。", "自転車で通勤できますか。", "在宅勤務は週に何日まで認められますか。",
    "退職金の計算の方法を教えてください。", "名刺の発注先はどこですか。", "慶弔金はいくら支給されますか。", "社内のWi-Fiのパスワードは何ですか。",
)


def cases() -> list[Case]:
    """The pairs that were written by hand, and questions that their chunks do not answer."""
    made = []
    for number, (heading, text, pairs) in enumerate(_PASSAGES, 1):
        chunk = Chunk("会社の資料.pdf", number, (heading,), (Block("paragraph", text, number),))
        for question, answer, quote, kind in pairs:
            pair = Pair(question, answer, quote, kind, "会社の資料.pdf", number, number)
            made.append(Case(pair, chunk))
        if number <= len(_ABSENT):
            question = _ABSENT[number - 1]
            pair = Pair(question, ABSENT_ANSWER, "", "absent", "会社の資料.pdf", number, number)
            made.append(Case(pair, chunk))
    return made


def _full_width(text: str) -> str:
    return text.translate({code: code + 0xFEE0 for code in range(0x30, 0x3A)})


def _plain_ending(answer: str) -> str:
    for polite, plain in (("ません。", "ない。"), ("あります。", "ある。"), ("です。", "。"), ("します。", "する。")):
        if answer.endswith(polite) and polite != "ません。":
            return answer.removesuffix(polite) + plain
    return answer


def _asked_otherwise(question: str) -> str:
    stem = question.rstrip("。？?")
    for ending in ("を教えてください", "はいくらですか", "は誰ですか", "は何ですか", "ですか"):
        if stem.endswith(ending):
            return stem.removesuffix(ending) + {"ですか": "でしょうか", "は何ですか": "は何か知りたいです", "は誰ですか": "は誰なのか教えてください", "はいくらですか": "の金額が知りたいのですが", "を教えてください": "について知りたいです"}[ending]
    return f"すみません、{stem}？"


WORDINGS: tuple[Callable[[Pair], Pair], ...] = (
    lambda pair: pair,
    lambda pair: replace(pair, question=_asked_otherwise(pair.question), answer=_full_width(pair.answer)),
    lambda pair: replace(pair, quote=_full_width(pair.quote.replace("、", "， ")), answer=_plain_ending(pair.answer)),
    lambda pair: replace(pair, question=f"確認ですが、{pair.question}", answer=f"はい。{pair.answer}" if pair.kind != "absent" else pair.answer, quote=pair.quote.rstrip("。")),
)


def good(count: int) -> list[Case]:
    """Sound pairs, each a wording or notation of its own; the first are as they were written."""
    made = {
        (pair.question, pair.answer, pair.quote): Case(pair, case.chunk)
        for word in WORDINGS
        for case in cases()
        for pair in (word(case.pair),)
    }
    return list(made.values())[:count]


def _wrong_number(case: Case, rng: random.Random) -> Pair | None:
    """Another number in the answer: a neighbouring, a tenfold or any other one, or one that the chunk has
    for something else."""
    others = [found for found in re.findall(r"[0-9][0-9,]*", case.chunk.text) if found not in case.pair.answer]
    held = re.findall(r"[0-9][0-9,]*", case.pair.answer)
    if held and others and rng.random() < 0.35 and not case.pair.quote.count(others[0]):
        other = rng.choice([one for one in others if one not in case.pair.quote] or others[:1])
        return replace(case.pair, answer=case.pair.answer.replace(rng.choice(held), other, 1))
    spots = [at for at, sign in enumerate(case.pair.answer) if sign.isdigit()]
    if not spots or "%" in case.pair.answer and "割" in case.pair.quote:
        return None
    at = rng.choice(spots)
    digit = str((int(case.pair.answer[at]) + rng.randint(1, 8)) % 10)
    digit = "7" if digit == "0" and (at == 0 or not case.pair.answer[at - 1].isdigit()) else digit
    changed = case.pair.answer[:at] + digit + case.pair.answer[at + 1 :]
    if rng.random() < 0.25:
        changed = case.pair.answer[:at] + case.pair.answer[at] + "0" + case.pair.answer[at + 1 :]
    return None if changed == case.pair.answer else replace(case.pair, answer=changed)


_NAMES = {
    "総務課": "人事課", "経理課": "営業課", "人事課": "法務課", "情報システム室": "品質管理室", "田中": "山本", "服部恵": "中村恵", "佐藤": "斎藤",
    "松岡": "岡田", "高木": "木村", "小松": "石井", "岩崎": "和田", "大阪": "京都", "沖縄": "長崎", "タイムノート": "ワークログ", "みなと病院": "さくら病院",
    "丸八石油": "三和石油", "第一公園": "第三公園", "オフィスサポート": "テクノサービス", "横浜": "神戸", "AX-200": "BX-300", "東雲さん": "大島さん",
    "接客マナー": "コンプライアンス", "フィルター": "バッテリー", "E-32": "F-18", "福岡支店": "札幌支店", "カバー": "トレイ", "レバー": "ダイヤル",
    "服部": "一条", "干し柿": "焼き芋", "みかん": "すいか", "地下倉庫": "屋上物置", "前面カバー": "背面の蓋", "司書": "校長", "店長": "会長", "警察": "消防",
}


def _other_name(case: Case, rng: random.Random) -> Pair | None:
    held = [name for name in _NAMES if name in case.pair.answer]
    if held:
        name = rng.choice(held)
        return replace(case.pair, answer=case.pair.answer.replace(name, _NAMES[name]))
    held = [name for name in _NAMES if name in case.pair.question]
    name = rng.choice(held) if held else ""
    return replace(case.pair, question=case.pair.question.replace(name, _NAMES[name])) if name else None


def _false_quote(case: Case, rng: random.Random) -> Pair | None:
    """A sentence that the model made up, another one's, or the true one with a word changed."""
    quote = case.pair.quote
    if not quote:
        return None
    ways = (
        lambda: quote.replace("する", "しない", 1) if "する" in quote else "詳しくは別に定める。",
        lambda: f"{case.pair.answer.rstrip('。')}と定められている。",
        lambda: rng.choice([other for other in cases() if other.chunk.number != case.chunk.number and other.pair.quote]).pair.quote,
        lambda: quote[: len(quote) // 2] + "原則として" + quote[len(quote) // 2 :],
    )
    return replace(case.pair, quote=rng.choice(ways)())


_DANGLING = (
    "上記の{}", "この表によると、{}", "資料には、{}と書かれていますか", "次の文章で、{}", "この規程では、{}", "下記の内容について、{}", "その{}",
    "本文によれば、{}", "ここで述べられている{}", "前述の件で、{}", "これについて、{}", "図に示されているように、{}", "この会社で、{}", "以下の表で、{}",
    "与えられた文章から、{}", "彼が言うように、{}", "文中の{}", "当該資料で{}", "左記の{}", "こちらの資料で、{}",
)


def _dangling(case: Case, rng: random.Random) -> Pair | None:
    if rng.random() < 0.15:
        return replace(case.pair, question=rng.choice(("それはいつまでですか。", "いくらですか？", "誰がするのですか。", "どこに出せばよいですか。")))
    return replace(case.pair, question=rng.choice(_DANGLING).format(case.pair.question))


def _duplicate(case: Case, rng: random.Random) -> Pair | None:
    question = case.pair.question
    ways = (
        question,
        _full_width(question),
        question.replace("。", "？"),
        question.rstrip("。？?") + "！",
        question.replace("ですか", "でしょうか").replace("ますか", "ますでしょうか"),
        question.replace("は", "は、", 1),
        f" {question} ",
    )
    return replace(case.pair, question=rng.choice(ways))


_MADE_UP = (
    ("社員食堂の営業時間はいつからいつまでですか。", "昼の間だけ開いています。"),
    ("制服はクリーニングに出せますか。", "はい、会社が費用を負担してくれます。"),
    ("忘年会の幹事は誰が務めますか。", "各部署の若手が順番に務めます。"),
    ("プリンターのトナーはどこで買いますか。", "近くの電気店で買うことができます。"),
    ("副業は認められていますか。", "許可を得れば認められています。"),
    ("通勤に自転車を使うことはできますか。", "はい、届け出れば使うことができます。"),
    ("観葉植物の水やりは誰の担当ですか。", "清掃会社の担当者が行っています。"),
    ("株主優待の内容を教えてください。", "自社製品の詰め合わせが届きます。"),
)


def _unanswerable(case: Case, rng: random.Random) -> Pair | None:
    """A question that the chunk does not answer: another chunk's pair, or one made up beside a true quote."""
    if rng.random() < 0.5:
        question, answer = rng.choice(_MADE_UP)
        return replace(case.pair, question=question, answer=answer, kind="fact")
    others = [other for other in cases() if other.chunk.number != case.chunk.number and other.pair.quote]
    other = rng.choice(others).pair
    quote = rng.choice((other.quote, case.pair.quote or other.quote))
    return replace(other, quote=quote, chunk=case.pair.chunk)


PLANTERS: dict[str, Callable[[Case, random.Random], Pair | None]] = {
    "wrong number": _wrong_number,
    "other name": _other_name,
    "false quote": _false_quote,
    "dangling": _dangling,
    "duplicate": _duplicate,
    "unanswerable": _unanswerable,
}


def bad(count: int, seed: int = 1) -> Iterator[Case]:
    """Pairs with one planted mistake each, of all kinds alike; a duplicate's original is the sound pair."""
    rng, made = random.Random(seed), 0
    sources = [case for case in cases() if case.pair.kind != "absent"]
    while made < count:
        planted = list(PLANTERS)[made % len(PLANTERS)]
        case = rng.choice(sources)
        pair = PLANTERS[planted](case, rng)
        if pair is not None:
            made += 1
            yield Case(pair, case.chunk, planted, case.pair)
